#!/bin/sh
# Packs /shared into /archive now and once a day; keeps the newest $KEEP archives.
set -eu
while true; do
    archive="/archive/$(date -u '+%Y%m%d-%H%M%S').tar.gz"
    tar -czf "$archive.new" -C /shared .
    mv "$archive.new" "$archive"
    ln -sf "${archive##*/}" /archive/newest.tar.gz
    find /archive -name '*-*.tar.gz' | sort -r | tail -n "+$((KEEP + 1))" | while read -r old; do rm "$old"; done
    sleep 86400
done
