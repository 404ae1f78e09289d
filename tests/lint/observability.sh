#!/bin/bash
# Prometheus' own checker reads the configuration and the rules of dev/observability and runs their tests; every alert
# has a test and a runbook, and the dashboard is what Grafana can read. tests/e2e/test_metrics.py knows the names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../dev/observability"
promtool=${CORDON_PROMTOOL:-$(command -v promtool || true)}
[[ -x $promtool ]] || { echo 'no promtool'; exit 77; }
"$promtool" check config prometheus.yml
"$promtool" test rules alerts_test.yml
status=0
for alert in $(sed -n 's/^ *- alert: //p' alerts.yml); do
    grep -q "$alert" alerts_test.yml || { echo "$alert has no test"; status=1; }
    grep -qx "## $alert" ../../docs/runbooks.md || { echo "$alert has no runbook: '## $alert' in docs/runbooks.md"; status=1; }
done
for runbook in $(sed -n 's/^## \(Cordon[A-Za-z]*\)$/\1/p' ../../docs/runbooks.md); do
    grep -q "alert: $runbook\$" alerts.yml || { echo "docs/runbooks.md: there is no alert $runbook"; status=1; }
done
jq -e '[.panels[] | select(.type != "row") | .targets | length > 0] | all' dashboard.json >/dev/null || { echo 'dashboard.json: a panel asks nothing'; status=1; }
exit "$status"
