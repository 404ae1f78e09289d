"""merkle_vectors.py CORDON-VERIFY FILE-OR-FOLDER...
Runs vectors that others have published through cordon-verify, a file each, in the form in which Certificate Transparency's
libraries keep theirs: {"leafIdx", "treeSize", "root", "leafHash", "proof", "wantErr"} is an inclusion proof, {"size1", "size2",
"root1", "root2", "proof", "wantErr"} a consistency proof; hashes in base64. Each that the program and the vector do not agree on
is named. Exit status: 0 none, 1 some, 2 nothing was there to run."""
import base64
import json
import pathlib
import subprocess
import sys


def hashes(proof):
    return [base64.b64decode(h or "").hex() for h in proof or []]


def as_ours(vector):
    """(command, question as the program reads it)."""
    def one(name):
        return base64.b64decode(vector[name] or "").hex()
    if "treeSize" in vector:
        return "inclusion", {"seq": vector["leafIdx"], "size": vector["treeSize"], "leaf_hash": one("leafHash"), "root": one("root"), "hashes": hashes(vector["proof"])}
    return "consistency", {"from": vector["size1"], "to": vector["size2"], "from_root": one("root1"), "to_root": one("root2"), "hashes": hashes(vector["proof"])}


def is_accepted(verify, vector):
    command, question = as_ours(vector)
    text = json.dumps(question, separators=(",", ":"))
    return subprocess.run([verify, command, "/dev/stdin"], input=text, text=True, capture_output=True).returncode == 0


def is_of_nothing(vector):
    """Anything begins with the empty tree: such a proof says nothing, and cordon-verify takes none, where some libraries do."""
    return vector.get("size1") == 0


def run(verify, paths):
    """Vectors that were run, and names of those that the program sees otherwise."""
    files = sorted(f for p in map(pathlib.Path, paths) for f in (p.rglob("*.json") if p.is_dir() else [p]))
    count, differ = 0, []
    for file in files:
        vector = json.loads(file.read_text())
        if is_of_nothing(vector):
            continue
        count += 1
        if is_accepted(verify, vector) == vector["wantErr"]:
            differ.append(str(file))
    return count, differ


if __name__ == "__main__":
    ran, others = run(sys.argv[1], sys.argv[2:]) if len(sys.argv) > 2 else (0, [])
    for name in others:
        print(f"otherwise: {name}")
    print(f"{ran} vectors, {len(others)} seen otherwise")
    sys.exit(1 if others else 0 if ran else 2)
