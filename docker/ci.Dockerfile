# The kit with every dependency installed, for running its tests anywhere:
#   docker build -f docker/ci.Dockerfile -t mlops-kit-ci . && docker run --rm mlops-kit-ci
FROM python:3.11.14-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home kit && install -d -o kit /kit
USER 1000
WORKDIR /kit
ENV PIP_NO_CACHE_DIR=1

# The slow layer changes only with a requirement.
COPY --chown=kit settings.ini setup.py pyproject.toml constraints.txt README.md LICENSE Makefile ./
COPY --chown=kit .ci .ci
RUN make .venv/ready .lint/ready

# A second, quick install: the editable one lists the packages it finds.
COPY --chown=kit . .
RUN .venv/bin/python -m pip install --no-deps -e .

CMD [".ci/run"]
