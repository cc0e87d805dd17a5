#!/bin/sh
# Installs the Chromium that the dashboard is tested with, from Debian's or Ubuntu's packages, unless there is one.
# Without it those tests are skipped and say so: never a reason to fail.
set -u
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        echo "browser for the dashboard's tests: $(command -v "$name")"
        exit 0
    fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "no Chromium, and none can be installed here: the dashboard's browser tests will be skipped" >&2
    exit 0
fi
echo "installing Chromium for the dashboard's tests"
export DEBIAN_FRONTEND=noninteractive
{ apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
    echo "Chromium could not be installed: the dashboard's browser tests will be skipped" >&2
exit 0
