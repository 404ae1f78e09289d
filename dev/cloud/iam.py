"""Identities and what they may do: the policy documents of terraform/iam, evaluated per call.

Everything is denied unless a statement allows it; an explicit Deny wins. Policies name things with Terraform's
placeholders (${region}, ${account_id}, ...), filled in here as Terraform fills them in. An operator, key or
element this evaluator does not know stops the start: a condition that is silently skipped would allow too much.
"""
import json
import pathlib
import re
from dataclasses import dataclass, field

from errors import refuse

PLACEHOLDER = re.compile(r"(?<!\$)\$\{([a-z_]+)\}")
VARIABLE = re.compile(r"\$\{aws:PrincipalTag/([A-Za-z_]+)\}")     # IAM's own; "$${" in Terraform's templates
ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}


@dataclass
class Identity:
    name: str
    key_id: str
    secret: str
    statements: list
    account: str
    token: str = None           # of a session: what x-amz-security-token must say
    session: str = None         # its name
    expires: object = None      # datetime
    tags: dict = field(default_factory=dict)

    @property
    def arn(self):
        if self.session:
            return f"arn:aws:sts::{self.account}:assumed-role/{self.name}/{self.session}"
        return f"arn:aws:iam::{self.account}:user/{self.name}"


def as_list(value):
    return value if isinstance(value, list) else [value]


def like(pattern, text, any_case=False):
    """IAM's own globbing: only * and ? are special."""
    regex = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(regex, text, re.S | (re.I if any_case else 0)) is not None


OPERATORS = {
    "StringEquals": lambda want, have: want == have,
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
    "Bool": lambda want, have: want.lower() == have.lower(),
    "NumericEquals": lambda want, have: float(have) == float(want),
    "NumericLessThanEquals": lambda want, have: float(have) <= float(want),
    "NumericGreaterThanEquals": lambda want, have: float(have) >= float(want),
}
NEGATED = {"StringNotEquals": "StringEquals", "StringNotLike": "StringLike", "ArnNotLike": "ArnLike"}


def split_operator(name):
    """'ForAnyValue:StringLikeIfExists' -> ('ForAnyValue', 'StringLike', True)"""
    quantifier, _, operator = name.rpartition(":")
    if_exists = operator.endswith("IfExists")
    return quantifier, operator.removesuffix("IfExists"), if_exists


def holds(name, wanted, have):
    """One condition. have: None when the request carries no such key, else a list of values."""
    quantifier, operator, if_exists = split_operator(name)
    if operator == "Null":
        return (have is None) == (wanted[0] == "true")
    if not have:
        return if_exists or quantifier == "ForAllValues" or operator in NEGATED
    base = OPERATORS[NEGATED.get(operator, operator)]
    matches = [any(base(want, value) for want in wanted) for value in have]
    if operator in NEGATED:
        matches = [not match for match in matches]
    return any(matches) if quantifier == "ForAnyValue" else all(matches)


def resolve(statement, tags):
    """The statement with the session's tags in the place of their variables; None when it names one that there is not."""
    text = json.dumps(statement)
    if any(name not in tags for name in VARIABLE.findall(text)):
        return None
    return json.loads(VARIABLE.sub(lambda m: json.dumps(re.sub(r"([*?])", r"${\1}", tags[m.group(1)]))[1:-1], text))


def applies(statement, action, resource, context):
    if "Action" in statement and not any(like(a, action, any_case=True) for a in as_list(statement["Action"])):
        return False
    if "NotAction" in statement and any(like(a, action, any_case=True) for a in as_list(statement["NotAction"])):
        return False
    if "Resource" in statement and not any(like(r, resource) for r in as_list(statement["Resource"])):
        return False
    if "NotResource" in statement and any(like(r, resource) for r in as_list(statement["NotResource"])):
        return False
    return all(holds(operator, [str(v) for v in as_list(wanted)], context.get(key.lower()))
               for operator, keys in statement.get("Condition", {}).items() for key, wanted in keys.items())


def is_allowed(identity, action, resource, context=None):
    context = {key.lower(): as_list(value) for key, value in (context or {}).items()}
    context.update({f"aws:principaltag/{name.lower()}": [value] for name, value in identity.tags.items()})
    statements = (resolve(s, identity.tags) for s in identity.statements)
    effects = {s["Effect"] for s in statements if s and applies(s, action, resource, context)}
    return "Allow" in effects and "Deny" not in effects


def require(identity, service, action, resource, context=None):
    if not is_allowed(identity, action, resource, context):
        raise refuse("denied", service, f"User: {identity.arn} is not authorized to perform: {action} "
                     f"on resource: {resource} because no identity-based policy allows the {action} action")


def parse_policy(text, values, where):
    """Fills the placeholders and refuses whatever the evaluator would not honour."""
    def fill(match):
        if match.group(1) not in values:
            raise ValueError(f"{where}: nothing is known about ${{{match.group(1)}}}")
        return values[match.group(1)]
    statements = as_list(json.loads(PLACEHOLDER.sub(fill, text).replace("$${", "${"))["Statement"])
    for statement in statements:
        unknown = set(statement) - ELEMENTS
        if unknown or statement.get("Effect") not in ("Allow", "Deny") or "${" in VARIABLE.sub("", json.dumps(statement)):
            raise ValueError(f"{where}: cannot evaluate {sorted(unknown) or statement}")
        for name, keys in statement.get("Condition", {}).items():
            operator = split_operator(name)[1]
            if operator != "Null" and NEGATED.get(operator, operator) not in OPERATORS:
                raise ValueError(f"{where}: no such condition operator: {name} ({list(keys)})")
    return statements


def load(identities_file, policy_dirs, values):
    """identities.json: [{name, access_key_id, secret_access_key}]; each has the policy <name>.json of one directory."""
    identities = {}
    for row in json.loads(pathlib.Path(identities_file).read_text()):
        files = [d / f"{row['name']}.json" for d in map(pathlib.Path, policy_dirs) if (d / f"{row['name']}.json").exists()]
        if len(files) != 1:
            raise ValueError(f"identity {row['name']} needs exactly one policy file, has {len(files)}")
        statements = parse_policy(files[0].read_text(), values, files[0].name)
        identities[row["access_key_id"]] = Identity(
            row["name"], row["access_key_id"], row["secret_access_key"], statements, values["account_id"])
    return identities


def load_roles(policy_dirs, values):
    """Role name -> statements: roles/<name>.json of each directory. Whoever may assume one, says the caller's own policy."""
    files = [file for folder in policy_dirs for file in sorted(pathlib.Path(folder, "roles").glob("*.json"))]
    return {file.stem: parse_policy(file.read_text(), values, file.name) for file in files}
