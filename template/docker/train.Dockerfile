# The project with all that it takes to train. From the project's folder:
#   pip wheel --no-deps --wheel-dir docker/wheels -r requirements.txt
#   docker build -f docker/train.Dockerfile -t train .
#   docker run --rm -v data:/project/data -v runs:/project/runs train mlops-kit train trainer.max_epochs=5
# --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu takes the torch without CUDA: much smaller.
FROM python:3.11.14-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
COPY requirements.txt constraints.txt ./
COPY docker/wheels docker/wheels
# What changes seldom first: all that the library and the project need, then the project.
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir -c constraints.txt docker/wheels/*.whl 'mlops-kit[{= extras =}]'

FROM python:3.11.14-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home train && install -d -o train /project /project/data /project/runs
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONPATH=/project
USER 10001
WORKDIR /project
COPY --chown=train . .
# It ends when its work is done: how it went is its exit code.
HEALTHCHECK NONE
CMD ["mlops-kit", "train"]
