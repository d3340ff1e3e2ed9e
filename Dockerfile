# The image of all three programs; the command says which one runs. Built and started by docker-compose.yml.

FROM python:3.13-slim-trixie AS build

WORKDIR /app
# Wheels only: nothing of a dependency runs while it is installed, and no compiler is needed.
COPY requirements.txt ./
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --disable-pip-version-check --python /opt/venv/bin/python \
        install --no-cache-dir --require-hashes --only-binary=:all: -r requirements.txt

# As in a checkout: the migrations are found beside `src`.
COPY alembic.ini ./
COPY migrations migrations
COPY deploy deploy
COPY src src
# Compiled here, because at run time nothing can be written. Readable for every user, whatever the checkout's umask.
RUN python -m compileall -q --invalidation-mode unchecked-hash migrations deploy src \
    && chmod -R a+rX,go-w /app

# The three commands by their names, as pip would write them for an installed package.
RUN for module in payments toss_sandbox demo_shop; do \
        command="/opt/venv/bin/$(echo "$module" | tr _ -)" \
        && printf '#!/bin/sh\nexec /opt/venv/bin/python -m %s "$@"\n' "$module" > "$command" \
        && chmod 0755 "$command" || exit 1; \
    done


FROM python:3.13-slim-trixie

# A new volume takes its owner from the directory that it is mounted on. Nothing else in the image is writable.
RUN groupadd --gid 10001 payments \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin payments \
    && install --directory --mode=0700 --owner=10001 --group=10001 \
        /data /secrets/kept /secrets/payments /secrets/migrate /secrets/api /secrets/worker \
        /secrets/shop /secrets/sandbox \
    && install --directory --mode=0755 --owner=10001 --group=10001 /secrets/postgres

# Of what the base brings, nothing lends a right, and nothing installs Python packages.
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.13/site-packages/pip* /usr/local/lib/python3.13/ensurepip

COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /app
STOPSIGNAL SIGTERM
USER 10001:10001
EXPOSE 8000

# For the command below; docker-compose.yml has one for each service.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-S", "/app/deploy/healthy.py", "8001", "/health/ready"]

CMD ["payments", "api", "--host", "0.0.0.0", "--port", "8000", "--ops-host", "0.0.0.0", "--ops-port", "8001"]
