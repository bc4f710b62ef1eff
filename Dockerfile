# Pricewire as an image: docker build -t pricewire:local .
# Built from the lock files only: every package is a wheel whose hash is known beforehand.

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/pricewire
COPY requirements/core.txt requirements/build.txt requirements/
RUN pip --python /opt/pricewire install --require-hashes --only-binary :all: -r requirements/core.txt \
 && pip install --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/pricewire install --no-index --no-deps dist/*.whl

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/pricewire pricewire
COPY --from=build /opt/pricewire /opt/pricewire
# A container's own loopback is of no use to anybody outside: which ports are open is said by `-p`.
ENV PATH=/opt/pricewire/bin:$PATH PRICEWIRE_HOME=/var/lib/pricewire API_HOST=0.0.0.0
WORKDIR /var/lib/pricewire
USER 10001:10001
EXPOSE 8000
# With http.client, which heeds no proxy of the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "import http.client, os; api = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('API_PORT') or 8000), timeout=4); api.request('GET', '/health/live'); raise SystemExit(api.getresponse().status != 200)"]
# No shell in between: SIGTERM reaches pricewire, which stops cleanly and exits 0.
ENTRYPOINT ["pricewire"]
CMD ["api"]
