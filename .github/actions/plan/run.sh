#!/usr/bin/env bash
# Verifies, checks and plans FROM..TO of the repository at REPO, annotates lines, and keeps one comment on a pull request up to date.
# Needs `evenkeel` (or EVENKEEL_BIN), `docker compose`, git, curl and jq. No engine, no secrets of any server.
#
# FROM, TO          commits; what runs now and what would
# REPO              the checkout; default .
# ALLOWED_SIGNERS   for `verify`; empty: not verified
# STRICT            true: warnings fail
# TOKEN, PULL_REQUEST, GITHUB_REPOSITORY, GITHUB_API_URL   where the comment goes; without TOKEN or PULL_REQUEST there is none
# GITHUB_STEP_SUMMARY   a file that gets the plan as well
#
# Exit status: 0 fine; 1 something would not deploy or is not trusted, or no comment could be written; 2 called wrongly.

set -euo pipefail

evenkeel=${EVENKEEL_BIN:-evenkeel}
repo=${REPO:-.}
mark='<!-- evenkeel-plan -->'
failed=0

for name in FROM TO; do
    # What begins with a dash would be taken for an option.
    if ! [[ ${!name:-} =~ ^[0-9A-Za-z][0-9A-Za-z._/-]*$ ]]; then
        printf '::error title=evenkeel::%s is not a revision\n' "$name"
        exit 2
    fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '\n== %s\n' "$1"; }

if [ -n "${ALLOWED_SIGNERS:-}" ]; then
    say verify
    "$evenkeel" verify --repo "$repo" --allowed-signers "$ALLOWED_SIGNERS" "$FROM..$TO" || failed=1
fi

say check
strict=()
[ "${STRICT:-false}" != true ] || strict=(--strict)
"$evenkeel" check --repo "$repo" --rev "$TO" --format github "${strict[@]}" || failed=1

say plan
if "$evenkeel" plan --repo "$repo" --from "$FROM" --to "$TO" --format markdown >"$work/plan.md"; then
    cat "$work/plan.md"
else
    failed=1
    [ -s "$work/plan.md" ] || printf '%s\n### Evenkeel plan: none\n\nThe plan could not be made: the job says why.\n' "$mark" >"$work/plan.md"
fi
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$work/plan.md" >>"$GITHUB_STEP_SUMMARY"

# The token goes to curl by file: the command line of a process is not secret.
call() { # method path [file]
    local body=()
    [ $# -lt 3 ] || body=(--header 'Content-Type: application/json' --data-binary "@$3")
    curl --silent --show-error --fail-with-body --max-time 30 --retry 2 --config "$work/curl" \
        --request "$1" "${body[@]}" "${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY/$2"
}

comment() {
    (umask 077 && printf 'header = "Authorization: Bearer %s"\nheader = "Accept: application/vnd.github+json"\n' "$TOKEN" >"$work/curl")
    jq --raw-input --slurp '{body: .}' "$work/plan.md" >"$work/body.json"
    local page id=''
    for page in 1 2 3 4 5 6 7 8 9 10; do
        call GET "issues/$PULL_REQUEST/comments?per_page=100&page=$page" >"$work/comments.json" || return 1
        # Only a bot's comment is replaced: a person may quote the mark.
        id=$(jq --raw-output --arg mark "$mark" \
            '[.[] | select(.user.type == "Bot" and (.body | startswith($mark))) | .id][0] // empty' "$work/comments.json")
        if [ -n "$id" ] || [ "$(jq length "$work/comments.json")" -lt 100 ]; then break; fi
    done
    if [ -n "$id" ]; then
        call PATCH "issues/comments/$id" "$work/body.json" >/dev/null
    else
        call POST "issues/$PULL_REQUEST/comments" "$work/body.json" >/dev/null
    fi
}

if [ -n "${TOKEN:-}" ] && [ -n "${PULL_REQUEST:-}" ]; then
    say comment
    if comment; then
        echo written
    else
        echo '::error title=evenkeel::the comment could not be written; the job needs the permission pull-requests: write'
        failed=1
    fi
fi

exit "$failed"
