#!/bin/bash
# The diff of docs/extending.md is what a newcomer types first: it must still go onto the tree. Mend the document when it does not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
sed -n '/^```diff$/,/^```$/{/^```/d;p}' docs/extending.md | git apply --check -
