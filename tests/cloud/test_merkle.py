"""Trees worked by hand from RFC 6962's definitions, given to the code that writes proofs (tests/tools/merkle_print.c) and to the
program that checks them; and vectors in the form in which others publish theirs."""
import base64
import hashlib
import json
import pathlib
import random
import subprocess
import sys

import pytest

from test_eventstream import ROOT, TOOLS

sys.path.append(str(ROOT / "tests" / "tools"))
import merkle_vectors  # noqa: E402

PRINT = TOOLS / "merkle_print"
VERIFY = TOOLS.parents[1] / "services/verify/cordon-verify"

# Certificate Transparency's eight entries, and the roots of the first one, two, ... of them.
ENTRIES = [bytes.fromhex(h) for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]
ROOTS = ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
         "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
         "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"]


# ---- RFC 6962, section 2.1, as it is written there ----

def leaf(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def split(n):
    """The largest power of two smaller than n."""
    return 1 << (n - 1).bit_length() - 1


def mth(d):
    if not d:
        return hashlib.sha256().digest()
    return leaf(d[0]) if len(d) == 1 else node(mth(d[:split(len(d))]), mth(d[split(len(d)):]))


def path(m, d):
    if len(d) == 1:
        return []
    k = split(len(d))
    return path(m, d[:k]) + [mth(d[k:])] if m < k else path(m - k, d[k:]) + [mth(d[:k])]


def subproof(m, d, is_whole):
    if m == len(d):
        return [] if is_whole else [mth(d)]
    k = split(len(d))
    return subproof(m, d[:k], is_whole) + [mth(d[k:])] if m <= k else subproof(m - k, d[k:], False) + [mth(d[:k])]


# ---- the two programs ----

def written(folder, what, entries, *at, as_hashes=False):
    (folder / "leaves").write_text("".join(f"{leaf(e).hex()}\n" if as_hashes else f"data:{e.hex()}\n" for e in entries))
    done = subprocess.run([PRINT, what, folder / "leaves", *map(str, at)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def checked(what, proof):
    return subprocess.run([VERIFY, what, "/dev/stdin"], input=proof, capture_output=True, text=True).returncode


def hexed(hashes):
    return [h.hex() for h in hashes]


def test_the_roots_of_certificate_transparency_are_the_writer_s(tmp_path):
    assert written(tmp_path, "root", []).strip() == hashlib.sha256().hexdigest()
    for n, root in enumerate(ROOTS, 1):
        assert mth(ENTRIES[:n]).hex() == root, "worked by hand"
        assert written(tmp_path, "root", ENTRIES[:n]).strip() == root
        assert written(tmp_path, "root", ENTRIES[:n], as_hashes=True).strip() == root


def test_the_rfc_s_example_of_seven_leaves(tmp_path):
    """Section 2.1.3: a to f and j are the leaves, g, h, i, k, l the nodes, by their names there."""
    d = ENTRIES[:7]
    a, b, c, e_, f, j_, j = (leaf(x) for x in d)
    g, h, i = node(a, b), node(c, e_), node(f, j_)
    k, l = node(g, h), node(i, j)
    assert node(k, l).hex() == ROOTS[6]
    for m, want in ((0, [b, h, l]), (3, [c, g, l]), (4, [j_, j, k]), (6, [i, k])):
        proof = written(tmp_path, "inclusion", d, m)
        assert json.loads(proof)["hashes"] == hexed(want)
        assert checked("inclusion", proof) == 0
    for m, want in ((3, [c, e_, g, l]), (4, [l]), (6, [i, j, k])):
        proof = written(tmp_path, "consistency", d, m)
        assert json.loads(proof)["hashes"] == hexed(want)
        assert checked("consistency", proof) == 0


@pytest.mark.parametrize("size", [1, 2, 13, 256, 257, 600])
def test_proofs_are_those_of_the_rfc_s_recursion_and_only_they_are_taken(tmp_path, size):
    """Beyond 256 leaves the writer reads whole subtrees of them."""
    entries, rng = [b"%d" % n for n in range(size)], random.Random(size)
    for m in sorted({0, size - 1, *rng.sample(range(size), min(size, 3))}):
        proof = written(tmp_path, "inclusion", entries, m)
        said = json.loads(proof)
        assert (said["root"], said["leaf_hash"], said["hashes"]) == (mth(entries).hex(), leaf(entries[m]).hex(), hexed(path(m, entries)))
        assert checked("inclusion", proof) == 0
        assert checked("inclusion", proof.replace(f'"root":"{said["root"]}"', f'"root":"{mth(entries + [b"x"]).hex()}"')) == 1
        proof = written(tmp_path, "consistency", entries, m + 1)
        said = json.loads(proof)
        assert (said["from_root"], said["to_root"], said["hashes"]) == (mth(entries[:m + 1]).hex(), mth(entries).hex(), hexed(subproof(m + 1, entries, True)))
        assert checked("consistency", proof) == 0
        assert checked("consistency", proof.replace(f'"from_root":"{said["from_root"]}"', f'"from_root":"{mth([b"y"] + entries[1:m + 1]).hex()}"')) == 1


def test_what_is_no_tree_or_not_in_it_is_refused(tmp_path):
    for text, *args in (("data:0\n", "root"), ("12\n", "root"), (f"{'g' * 64}\n", "root"), ("data:00\n", "inclusion", "1"), ("data:00\n", "inclusion", "-1"),
                        ("data:00\n", "consistency", "2"), ("data:00\n", "inclusion"), ("data:00\n", "something", "0")):
        (tmp_path / "leaves").write_text(text)
        done = subprocess.run([PRINT, args[0], tmp_path / "leaves", *args[1:]], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr, (text, args, done.stdout)


# ---- vectors of others ----

def b64(h):
    return base64.b64encode(h).decode()


def vectors():
    """As others publish them: of CT's entries, good ones and what is done to such by those who look for holes."""
    root = [bytes.fromhex(r) for r in ROOTS]
    for n in (1, 6, 7):
        for m in range(n):
            proof = [b64(h) for h in path(m, ENTRIES[:n])]
            good = {"leafIdx": m, "treeSize": n, "root": b64(root[n - 1]), "leafHash": b64(leaf(ENTRIES[m])), "proof": proof or None, "wantErr": False}
            yield f"inclusion-{m}-{n}", good
            for name, change in (("index", {"leafIdx": m ^ 2}), ("before", {"leafIdx": (m - 1) % (1 << 64)}), ("size", {"treeSize": n * 2}), ("half", {"treeSize": n // 2}),
                                 ("leaf", {"leafHash": b64(leaf(b"other"))}), ("root", {"root": b64(leaf(b"other"))}), ("no-root", {"root": ""}),
                                 ("garbage", {"proof": proof + [""]}), ("first", {"proof": [good["root"]] + proof}), ("behind", {"proof": proof + [good["root"]]})):
                if name == "half" and n == 1:
                    change = {"treeSize": 0}
                yield f"inclusion-{m}-{n}-{name}", {**good, **change, "wantErr": True}
            proof = [b64(h) for h in subproof(m + 1, ENTRIES[:n], True)]
            good = {"size1": m + 1, "size2": n, "root1": b64(root[m]), "root2": b64(root[n - 1]), "proof": proof or None, "wantErr": False}
            yield f"consistency-{m + 1}-{n}", good
            for name, change in (("size1", {"size1": n + 1}), ("size2", {"size2": n * 2}), ("swapped", {"root1": good["root2"], "root2": good["root1"]}),
                                 ("cut", {"proof": proof[:-1]}), ("behind", {"proof": proof + [good["root1"]]}), ("bit", {"proof": proof[:1] and [b64(bytes(32))] + proof[1:]})):
                if good["root1"] != good["root2"] or name not in ("swapped", "cut", "bit"):
                    yield f"consistency-{m + 1}-{n}-{name}", {**good, **change, "wantErr": True}


def test_vectors_in_the_form_of_others_are_run_and_a_wrong_one_is_named(tmp_path):
    for name, vector in vectors():
        (tmp_path / f"{name}.json").write_text(json.dumps(vector))
    (tmp_path / "empty.json").write_text(json.dumps({"size1": 0, "size2": 0, "root1": "", "root2": "", "proof": None, "wantErr": False}))
    count, others = merkle_vectors.run(VERIFY, [tmp_path])
    assert count > 200 and others == []
    wrong = tmp_path / "consistency-3-7.json"
    wrong.write_text(json.dumps({**json.loads(wrong.read_text()), "wantErr": True}))
    done = subprocess.run([sys.executable, ROOT / "tests/tools/merkle_vectors.py", VERIFY, wrong, tmp_path / "consistency-4-7.json"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, f"otherwise: {wrong}\n2 vectors, 1 seen otherwise\n")


@pytest.mark.parametrize("name", ["merkle_print", "merkle_vectors.py"])
def test_the_page_for_outsiders_names_the_entry_points(name):
    assert name in (ROOT / "docs/verify.md").read_text()
