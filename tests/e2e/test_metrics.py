"""The names of metrics: what processes show, what docs/telemetry.md explains, what rules and dashboard ask for.
`/usr/bin/python3 tests/e2e/test_metrics.py --write STATE` (a folder with stack.json) writes the table of docs/telemetry.md from what runs there."""
import json
import pathlib
import re
import subprocess
import sys

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "telemetry.md"
OBSERVABILITY = ROOT / "dev" / "observability"
BEGIN, END = "<!-- metrics: written by tests/e2e/test_metrics.py --write -->\n", "<!-- end of metrics -->\n"
# Others' metrics, which only a production Prometheus has.
FOREIGN = {"up", "node_filesystem_avail_bytes", "node_filesystem_size_bytes"}
SUFFIXES = ("_bucket", "_sum", "_count")


def families(text):
    """{name: (type, help, labels, processes)} of one exposition."""
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    out = {}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        rows = re.findall(rf"^{name}(?:_bucket|_sum|_count)?\{{(.*)\}} ", text, re.M)
        labels = {label for row in rows for label in re.findall(r'(\w+)="', row)} - {"le"}
        out[name] = (kind, helps[name], labels)
    return out


def table(expositions):
    """expositions: {process: text}."""
    rows = {}
    for process, text in expositions.items():
        for name, (kind, about, labels) in families(text).items():
            row = rows.setdefault(name, (kind, about, set(), []))
            row[2].update(labels)
            row[3].append(process)
    lines = ["| metric | type | labels | of | what |", "|---|---|---|---|---|"]
    for name, (kind, about, labels, of) in sorted(rows.items()):
        where = "all" if len(of) == len(expositions) else "all but edge" if len(of) == len(expositions) - 1 and "edge" not in of else ", ".join(of)
        lines.append(f"| `{name}` | {kind} | {', '.join(sorted(labels)) or '-'} | {where} | {about} |")
    return "\n".join(lines) + "\n"


def names_in(expression):
    """Names of metrics in a PromQL expression: words that are no function, label, keyword or unit."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    words = {m[1] for m in re.finditer(r"([a-zA-Z_][\w:]*)(?!\s*\()\b", bare) if not re.match(r"\s*\(", bare[m.end():])}
    return {w for w in words if "_" in w or w == "up"} - {"predict_linear", "histogram_quantile"}


def rules():
    """[(file, record name or None, expression)]; the files are simple enough to be read without a YAML library."""
    out = []
    for file in ("recording.yml", "alerts.yml"):
        text = re.sub(r">-\n\s+", "", (OBSERVABILITY / file).read_text())
        for kind, name, expression in re.findall(r"- (record|alert): (\S+)\n\s+expr: (.*)", text):
            out.append((file, name if kind == "record" else None, expression))
    assert len(out) > 30
    return out


def expressions():
    dashboard = json.loads((OBSERVABILITY / "dashboard.json").read_text())
    asked = [(f"dashboard: {p['title']}", t["expr"]) for p in dashboard["panels"] for t in p.get("targets", [])]
    return asked + [(file, expression) for file, _, expression in rules()]


@pytest.fixture(scope="module")
def shown(stack):
    """What every process shows after a document and a question: {process: text}."""
    stack.ingest(b"Counted: heart rate 64, regular.")
    stack.call("POST", "/api/v1/query", json={"question": "What is the heart rate?"})
    return {name: requests.get(process["metrics"] + "/metrics", timeout=10).text for name, process in stack.info["processes"].items()}


def test_promtool_finds_nothing_to_say_about_any_process(stack, shown):
    promtool = pathlib.Path(stack.info["state"]).parent / "promtool"
    if not promtool.exists():
        pytest.skip("no promtool; `./cordon test --lanes e2e` unpacks it")
    for process, text in shown.items():
        done = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True)
        assert done.returncode == 0 and not done.stdout + done.stderr, (process, done.stdout, done.stderr)


def test_every_metric_is_explained_and_every_explained_one_is_there(shown):
    documented = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text().split(BEGIN)[1].split(END)[0], re.M))
    there = {name for text in shown.values() for name in families(text)}
    assert there - documented == set(), "to be explained: tests/e2e/test_metrics.py --write"
    assert documented - there == set(), "explained and gone"


def test_rules_and_dashboard_ask_only_for_what_is_there(shown):
    there = {name for text in shown.values() for name in families(text)} | FOREIGN | {name for _, name, _ in rules() if name}
    for where, expression in expressions():
        for name in names_in(expression):
            base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
            assert name in there or base in there, (where, name)
        assert names_in(expression), where


def test_labels_hold_no_ids_and_no_words_of_anybody(shown):
    """But for whose tokens they were: a tenant's id, of so many tenants."""
    for process, text in shown.items():
        for tenant in re.findall(r'^cordon_model_tenant_\w+\{tenant="([^"]*)"', text, re.M):
            assert process == "embedding-worker" and re.fullmatch(r"other|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", tenant), tenant
        text = re.sub(r"^cordon_model_tenant_.*$", "", text, flags=re.M)
        for value in re.findall(r'\w+="([^"]*)"', text):
            assert re.fullmatch(r"[A-Za-z0-9_./{}*:+ -]{0,80}", value), (process, value)
            assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}|[0-9a-f]{16}", value), (process, value)
        assert text.count("\n") < 4000, process


@pytest.mark.parametrize("name", ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds",
                                  "cordon_build_info", "cordon_otlp_spans_total"])
def test_every_process_shows_the_standard_ones(shown, name):
    for process, text in shown.items():
        assert name in families(text), process


def test_what_alerts_wait_for_is_there_before_it_happened(shown):
    assert 'cordon_http_requests_total{route="/openapi.json",method="GET",status="503"} 0' in shown["edge"]
    assert "cordon_shed_total 0" in shown["query"]
    assert "cordon_audit_conflicts_total 0" in shown["audit-writer"]
    assert 'cordon_requests_total{method="query.Query",status="ST_INTERNAL"} 0' in shown["query"]


if __name__ == "__main__" and sys.argv[1:2] == ["--write"]:
    state = json.loads((pathlib.Path(sys.argv[2]) / "stack.json").read_text())
    texts = {name: requests.get(process["metrics"] + "/metrics", timeout=10).text for name, process in state["processes"].items()}
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(before + BEGIN + "\n" + table(texts) + "\n" + END + rest.split(END)[1])
