# Programs and a schema that some slow tests hold our files against; sourced by .ci/run.
# None of them belongs to the project's own environment, and each may be missing: then the tests that
# want it skip and say so.

# A browser for the report page, Docker Compose for its exports.
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    for package in chromium docker-compose; do
        command -v "$package" >/dev/null && continue
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"; } \
            >/dev/null 2>&1 || echo "no $package: the tests with it are skipped" >&2
    done
fi

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

# LiteLLM, whose pins clash with ours: it lives by itself.
if [ -z "${LITELLM:-}" ] && ! command -v litellm >/dev/null; then
    if { python3 -m venv "$tools/litellm" && timeout 60 "$tools/litellm/bin/pip" install -q uv &&
        UV_CACHE_DIR="$tools/uv" timeout 180 "$tools/litellm/bin/uv" pip install -q \
            --python "$tools/litellm/bin/python" 'litellm[proxy]==1.106.2'; } >/dev/null 2>&1; then
        export LITELLM="$tools/litellm/bin/litellm"
    else
        echo "no LiteLLM: the tests that start it are skipped" >&2
    fi
fi

# The official schema of SARIF 2.1.0, as an npm package carries it.
if [ -z "${SARIF_SCHEMA:-}" ]; then
    schema=package/lib/schemas/sarif-2.1.0-rtm.5.json
    if (cd "$tools" && timeout 60 npm pack @microsoft/jest-sarif@1.0.0-beta.0 &&
        tar xzf ./*.tgz "$schema") >/dev/null 2>&1; then
        export SARIF_SCHEMA="$tools/$schema"
    else
        echo "no schema of SARIF: its test is skipped" >&2
    fi
fi
