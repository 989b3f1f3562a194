ARG V=${V:-3.11}
RUN --mount=type=cache,target=/x set -eux; { echo a; echo "b=${V%%.*}"; } | tee f
HEALTHCHECK CMD ["sh", "-c", "[ -f x ]"]
