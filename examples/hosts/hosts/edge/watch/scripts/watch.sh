#!/bin/sh
# Usage: watch.sh URL. Writes one line a minute: when, and whether URL answered.
set -eu
while true; do
    if wget -q -O /dev/null "$1"; then state=up; else state=down; fi
    echo "$(date -u '+%Y-%m-%dT%H:%M:%SZ') $state" >> /seen/log.txt
    sleep 60
done
