#!/usr/bin/env bash
# Prometheus' promtool: an expression is asked of samples up to the last evaluation of rules alone.
#
# One may expect that a unit test's expression with `eval_time: 105s` sees the input series as they
# are after 105 s. Shown here, with a series that is scraped every 15 s: it sees the samples up to
# the last multiple of `evaluation_interval`, which is 1m by default. A counter that grows by 2 a
# second has rate(total[1m]) = 0.75, and a gauge has the value that it had 45 s before. Nothing is
# said of it; the test of a rule may pass for the wrong reason. With `evaluation_interval: 15s` in
# the same file both are right.
#
# What to do: give the file an `evaluation_interval` of which every `eval_time` is a multiple.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
# Debian 12 has 2.42.0; nothing is installed or started.
apt-get download -qq prometheus >/dev/null 2>&1 || { apt-get update -qq && apt-get download -qq prometheus; } >/dev/null 2>&1
dpkg -x prometheus_*.deb .
promtool=$folder/usr/bin/promtool
version=$("$promtool" --version 2>&1 | head -1)
echo "$version"
case "$version" in
  *"version 2.42.0"*) ;;
  *) echo "this was seen with 2.42.0: look again" >&2; exit 1 ;;
esac

rule_test() {  # the first line of the file, the gauge's value, the counter's rate
  cat > asked.yaml <<YAML
$1
tests:
  - interval: 15s
    input_series:
      - {series: 'level', values: '1 2 3 4 5 6 7 8 9'}
      - {series: 'total', values: '0+30x8'}
    promql_expr_test:
      - {expr: level, eval_time: 105s, exp_samples: [{labels: level, value: $2}]}
      - {expr: 'rate(total[1m])', eval_time: 105s, exp_samples: [{labels: '{}', value: $3}]}
YAML
  "$promtool" test rules asked.yaml >said.txt 2>&1
}

check() {
  if rule_test "$1" "$2" "$3"; then
    echo "${1:-no evaluation_interval}: after 105 s the gauge is $2, the rate $3"
  else
    cat said.txt
    echo "not so any more: ${1:-no evaluation_interval}, $2, $3" >&2
    exit 1
  fi
}

check "evaluation_interval: 15s" 8 2
check "" 5 0.75
check "evaluation_interval: 1m" 5 0.75
echo "the samples of the last 45 s are missing: as described"
