# syntax=docker/dockerfile:1
# Debian, not Alpine: the embedded store comes as a glibc binary.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/smpp-gateway
WORKDIR /src
# The dependencies change less often than the source: a layer of their own, every file checked by its hash.
COPY requirements.lock ./
RUN /opt/smpp-gateway/bin/pip install --quiet --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY gateway gateway
RUN pip wheel --quiet --no-deps --wheel-dir /wheels . \
 && /opt/smpp-gateway/bin/pip install --quiet --no-deps /wheels/*.whl \
 && /opt/smpp-gateway/bin/python -m compileall -q /opt/smpp-gateway/lib

FROM python:${PYTHON}-slim
# The embedded store is preloaded with jemalloc if it is installed: a tenth less CPU per message. Any version will do;
# a pinned one disappears from the mirrors with the next update.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libjemalloc2 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/smpp-gateway --shell /usr/sbin/nologin smpp-gateway \
 && install -d -o smpp-gateway -m 0700 /var/lib/smpp-gateway/data
COPY --from=build /opt/smpp-gateway /opt/smpp-gateway
ENV PATH=/opt/smpp-gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SMPP_GATEWAY_CONFIG=/etc/smpp-gateway/gateway.toml
# By number, so that "not root" can be checked without the image's list of users.
USER 10001
# Relative paths of the configuration begin here: `data_dir = "data"` is the volume.
WORKDIR /var/lib/smpp-gateway
VOLUME /var/lib/smpp-gateway/data
# applications over HTTP, operators, applications over SMPP
EXPOSE 8080 8081 2776
# The admin listener stays on the container's own loopback unless the configuration says otherwise.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/healthz', timeout=2)"]
# No shell and no init between: the gateway is process 1, takes SIGTERM itself and reaps its store and its workers. Give
# it time to empty its windows: docker stop --time 40. It writes to the volume and to /tmp alone: --read-only --tmpfs
# /tmp will do.
STOPSIGNAL SIGTERM
ENTRYPOINT ["smpp-gateway"]
CMD ["serve"]
