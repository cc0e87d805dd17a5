#!/bin/sh
# Fetches the dashboard's third-party parts from the npm registry, exactly these versions, into
# app/dashboard/static/vendor. Needs npm; run by whoever updates one, never by an installation.
set -eu
cd "$(dirname "$0")/.."
vendor=$PWD/app/dashboard/static/vendor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # NAME VERSION: unpack it as $work/NAME
    mkdir -p "$work/$1"
    (cd "$work" && tar -xzf "$(npm pack --silent "$1@$2" --pack-destination "$work")" -C "$work/$1" --strip-components 1)
}

licence() { # NAME VERSION
    printf '%s %s\n\n' "$1" "$2"
    cat "$work/$1/LICENSE"
    printf '\n%s\n\n' "$(printf '%.0s-' $(seq 100))"
}

set -- preact 11.2.0 htm 3.1.1 uplot 1.6.32 \
    @fontsource-variable/geist 5.3.0 @fontsource-variable/geist-mono 5.3.0
mkdir -p "$vendor"
: >"$vendor/LICENSES.txt"
while [ $# -gt 0 ]; do
    fetch "$1" "$2"
    licence "$1" "$2" >>"$vendor/LICENSES.txt"
    shift 2
done
plain() { # without the line that points to a source map, which is not here
    sed '/^\/\/# sourceMappingURL=/d' "$1"
}
plain "$work/preact/dist/preact.mjs" >"$vendor/preact.js"
# A browser resolves no bare names of packages, and a map of them would have to be an inline script.
plain "$work/preact/hooks/dist/hooks.mjs" | sed 's#from"preact"#from"./preact.js"#' >"$vendor/hooks.js"
plain "$work/htm/dist/htm.mjs" >"$vendor/htm.js"
cp "$work/uplot/dist/uPlot.esm.js" "$vendor/uplot.js"
cp "$work/uplot/dist/uPlot.min.css" "$vendor/uplot.css"
fonts=$work/@fontsource-variable
cp "$fonts/geist/files/geist-latin-wght-normal.woff2" "$vendor/geist.woff2"
cp "$fonts/geist-mono/files/geist-mono-latin-wght-normal.woff2" "$vendor/geist-mono.woff2"
ls -l "$vendor"
