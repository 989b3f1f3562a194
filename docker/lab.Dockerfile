# JupyterLab with the kit and everything a project needs; the work lies in /project.
#   docker build -f docker/lab.Dockerfile -t mlops-kit-lab .
#   docker run --rm -p 127.0.0.1:8888:8888 -v "$PWD:/project" mlops-kit-lab
# The token is made at the start and printed; -e JUPYTER_TOKEN=... sets one. None is in the image.
FROM python:3.11.14-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home lab && install -d -o lab /project

COPY . /tmp/kit
RUN pip install --no-cache-dir -c /tmp/kit/constraints.txt '/tmp/kit[project]' && rm -rf /tmp/kit

USER 1000
WORKDIR /project
ENV WANDB_MODE=offline
EXPOSE 8888
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8888/api', timeout=4)"]
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser"]
