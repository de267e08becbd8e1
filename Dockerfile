# One image for all that compose.yaml starts: the worker, the MLflow server, the Prefect server.
#
#   docker build -t isthmus .
#       torch as the package index has it, without the packages of any GPU
#   docker build -t isthmus --build-arg TORCH_INDEX=<torch's CPU index> .
#       where the package index offers only the CUDA build of torch
#   docker build -t isthmus --build-arg TORCH_INDEX=<torch's CUDA index> --build-arg DEVICE=cuda .
#       for a GPU: also installs the CUDA packages that this torch asks for

FROM python:3.11.13-slim-bookworm AS build

# no default: which index to trust is the builder's to say
ARG TORCH_INDEX=
ARG DEVICE=cpu

ENV UV_COMPILE_BYTECODE=1 \
    UV_INDEX_STRATEGY=unsafe-best-match \
    UV_LINK_MODE=copy \
    VIRTUAL_ENV=/opt/venv

COPY requirements.lock requirements-dev.lock /build/
COPY .ci/hashed /build/.ci/hashed
COPY .ci/hashes /build/.ci/hashes
WORKDIR /build

# --no-deps: the lock names every package, so no CUDA package comes that is not written there. Each file must have a hash
# of .ci/hashes, but torch for a GPU, which comes from the index that the builder names.
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r .ci/hashes/uv.lock \
    && python -m venv /opt/venv \
    && grep '^psycopg2-binary==' requirements-dev.lock >> requirements.lock \
    && python .ci/hashed requirements.lock > packages.lock \
    && uv pip install --no-cache --no-deps --require-hashes -r packages.lock \
    && if [ "$DEVICE" = cuda ]; then \
        grep '^torch==' requirements.lock > torch.lock \
        && uv pip install --no-cache ${TORCH_INDEX:+--index "$TORCH_INDEX"} -r torch.lock; \
    else \
        uv pip install --no-cache --no-deps --require-hashes ${TORCH_INDEX:+--index "$TORCH_INDEX"} \
            -r ".ci/hashes/torch${TORCH_INDEX:+-cpu}.lock"; \
    fi \
    && { /opt/venv/bin/python -c 'import torch' \
        || { echo "torch cannot be imported: pass --build-arg TORCH_INDEX=<torch's CPU index>, or DEVICE=cuda" >&2; exit 1; }; }

# Editable, so that the package is found through its folder: a working tree mounted at /project is what runs.
COPY pyproject.toml README.md LICENSE params.yaml dvc.yaml prefect.yaml .dvcignore .gitignore .env.example /project/
COPY .dvc/plots /project/.dvc/plots
COPY data/labels/README.md /project/data/labels/
COPY template /project/template
COPY plugins /project/plugins
COPY pipelines /project/pipelines
COPY src /project/src
RUN uv pip install --no-cache --no-deps --editable /project


FROM python:3.11.13-slim-bookworm

# git: a published model names the snapshot of the tree that made it
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /project \
    && useradd --create-home --uid 1000 isthmus \
    && install --directory --owner isthmus --group isthmus /project /artifacts

COPY --from=build /opt/venv /opt/venv

# PREFECT_SERVER_UI_STATIC_DIRECTORY: else Prefect's server writes its pages beside its code, where the user may not
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 \
    DVC_NO_ANALYTICS=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/tmp/prefect-ui

WORKDIR /project
COPY --chown=isthmus:isthmus pyproject.toml README.md LICENSE requirements.lock params.yaml dvc.yaml prefect.yaml .dvcignore ./
COPY --chown=isthmus:isthmus .dvc/config .dvc/.gitignore .dvc/
COPY --chown=isthmus:isthmus .dvc/plots .dvc/plots
# the folder that the stage 'labels' reads, with no labels in it
COPY --chown=isthmus:isthmus data/labels/README.md data/labels/
COPY --chown=isthmus:isthmus plugins plugins
COPY --chown=isthmus:isthmus src src
COPY --chown=isthmus:isthmus pipelines pipelines

USER isthmus

EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=4)"]

CMD ["prefect", "worker", "start", "--pool", "isthmus", "--type", "process", "--limit", "1", "--with-healthcheck"]
