ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY .ci/install-runtime .ci/install-runtime
COPY requirements-build.txt requirements-runtime.txt pyproject.toml setup.py README.md ./
COPY proxy proxy
RUN .ci/install-runtime /opt/penstock

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin penstock \
    && mkdir /etc/penstock
COPY --from=build /opt/penstock /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 6432 9432
# Asks the HTTP listener; the configuration must keep it on port 9432.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9432/healthz', timeout=2)"]
ENTRYPOINT ["penstock"]
CMD ["serve", "--config", "/etc/penstock/config.toml"]
