# One image for the Ray head, the replicas and the actors; compose.yaml and k8s/ both run it. The load generator is not in it.
#
#   docker build -t spillway:0.1.0 .
#
# The base is pinned by its tag. To pin the very bytes, ask for the digest and build with it:
#   docker buildx imagetools inspect python:3.11.14-slim-bookworm
#   docker build --build-arg PYTHON=python:3.11.14-slim-bookworm@sha256:... -t spillway:0.1.0 .
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS packages
COPY requirements.txt /tmp/requirements.txt
# Wheels only: what needs a compiler fails here instead of dragging one in.
RUN python -m venv /opt/venv
RUN /opt/venv/bin/python -m pip install --no-cache-dir --only-binary :all: -r /tmp/requirements.txt
RUN /opt/venv/bin/python -m pip uninstall --yes pip setuptools

FROM ${PYTHON}
RUN useradd --uid 10001 --user-group --create-home spillway \
    && install -d -o spillway -g spillway -m 0700 /var/lib/spillway
COPY --from=packages /opt/venv /opt/venv
WORKDIR /srv/spillway
COPY actors ./actors
COPY cluster ./cluster
COPY serve_app ./serve_app
RUN /opt/venv/bin/python -m compileall -q actors cluster serve_app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/srv/spillway \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    SPILLWAY_STATE_DIR=/var/lib/spillway \
    SPILLWAY_HTTP_HOST=0.0.0.0
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000 8080
# Ready means that writes are accepted; the log may have to be opened first.
HEALTHCHECK --interval=10s --timeout=4s --start-period=90s --retries=3 CMD ["python", "-c", "\
import os, urllib.request as web; \
port = os.environ.get('SPILLWAY_HTTP_PORT', '8000'); \
web.build_opener(web.ProxyHandler({})).open(f'http://127.0.0.1:{port}/readyz', timeout=3)"]
# In the foreground until SIGTERM, then it drains. It starts Ray and Serve, and no Redis or MongoDB when the settings
# name them. In Kubernetes the operator puts its own command in its place.
CMD ["python", "-m", "cluster", "up"]
