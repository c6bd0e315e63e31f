#!/bin/sh
# Adds a line for this start to the list in the volume, then serves the volume.
set -eu
date -u '+started %Y-%m-%dT%H:%M:%SZ' >> /data/starts.txt
exec httpd -f -p 8080 -h /data -c /config/httpd.conf
