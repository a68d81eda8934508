#!/usr/bin/env bash
# The step of action.yml: judges once, keeps what it said in every form, and ends as `redistill gate` does.
set -uo pipefail

case "$UNDECIDED" in fail | pass) ;; *)
  echo "::error::undecided is '${UNDECIDED//[^a-zA-Z0-9_-]/?}': fail or pass was expected"
  exit 2
  ;;
esac
folder=$(mktemp -d "$RUNNER_TEMP/redistill-gate-XXXXXX") || exit 69
options=(--baseline "$BASELINE" --data "$DATA")
[ -n "$POLICY" ] && options+=(--policy "$POLICY")
[ -n "$LABELS" ] && options+=(--labels "$LABELS")
for form in junit.xml page.md gate.json; do options+=(--report "$folder/$form"); done

redistill gate "${options[@]}" -- "$CANDIDATE"
code=$?

answer=
case $code in 0) answer=passed ;; 1) answer=refused ;; 3) answer=undecided ;; esac
{
  echo "answer=$answer"
  if [ -n "$answer" ]; then
    echo "folder=$folder"
    echo "junit=$folder/junit.xml"
    echo "json=$folder/gate.json"
  fi
} >>"$GITHUB_OUTPUT"
if [ -n "$answer" ]; then
  cat "$folder/page.md" >>"$GITHUB_STEP_SUMMARY"
else
  echo "### redistill gate: nothing could be judged (exit code $code); the log says why" >>"$GITHUB_STEP_SUMMARY"
fi
if [ "$answer" = undecided ] && [ "$UNDECIDED" = pass ]; then
  echo "::warning::redistill gate is undecided: the rows are too few to say yes or no"
  exit 0
fi
exit "$code"
