# The model of package/ over HTTP, without torch. From the project's folder:
#   pip wheel --no-deps --wheel-dir docker/wheels -r requirements.txt
#   docker build -f docker/serve.Dockerfile -t serve .
#   docker run --rm -p 127.0.0.1:8000:8000 serve
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY constraints.txt docker/wheels/mlops_kit-*.whl ./
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir -c constraints.txt ./mlops_kit-*.whl 'mlops-kit[serve]' \
    && /venv/bin/pip uninstall --yes pip setuptools

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.source={= repository =}
RUN useradd --uid 10001 --no-create-home serve && install -d -o serve /predictions
COPY --from=build /venv /venv
COPY package /package
ENV PATH=/venv/bin:$PATH MLOPS_KIT_WHAT=/package MLOPS_KIT_HOST=0.0.0.0 MLOPS_KIT_LOG=/predictions
USER 10001
EXPOSE 8000
VOLUME /predictions
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
CMD ["mlops-kit", "serve"]
