# zattredis in a container: one node, data in /data.
#
#   docker build -t zattredis .
#   docker run -d --name zattredis -p 6379:6379 -v zattredis-data:/data zattredis
#
# Give settings as variables (-e ZATTREDIS_REQUIREPASS=…): the health check reads the same ones. Console and metrics are on
# 9379 with -e ZATTREDIS_ADMIN_PORT=9379 -e ZATTREDIS_ADMIN_BIND=0.0.0.0 -p 127.0.0.1:9379:9379.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY zattredis ./zattredis
# pip itself is only needed here, so it stays out of what is copied on.
RUN python -m venv /opt/zattredis \
 && /opt/zattredis/bin/pip install --no-cache-dir . \
 && /opt/zattredis/bin/pip uninstall --yes pip

FROM python:3.12-slim
RUN useradd --system --uid 999 --user-group --no-create-home --shell /usr/sbin/nologin zattredis \
 && install --directory --owner=zattredis --group=zattredis --mode=0700 /data
COPY --from=build /opt/zattredis /opt/zattredis
# In a network of its own a container listens on all its addresses and takes clients of other containers; with host
# networking that is every address of the machine: set ZATTREDIS_BIND=127.0.0.1 there, or a password and a cluster secret.
# Clients come through Docker's bridge, so that protected mode would keep out all of them (Redis's own image has it off).
ENV PATH=/opt/zattredis/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ZATTREDIS_BIND=0.0.0.0 \
    ZATTREDIS_PROTECTED_MODE=no \
    ZATTREDIS_DIR=/data
USER 999:999
WORKDIR /data
VOLUME /data
EXPOSE 6379 16379 9379
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["zattctl", "ping"]
ENTRYPOINT ["zattd"]
