# Two images: control-plane (API, command line, schema; no torch) and trainer (workers and inference workers).
# docker-compose.yml says which part runs in which, with which command.
FROM python:3.12-slim AS base

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/policysplit

# A C compiler: pycosat, of reasoning-gym, comes as source, and Triton compiles a GPU's kernels when it runs.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

# Files, models and runs: the API, the workers and the inference workers share this volume.
RUN useradd --create-home --uid 1000 policysplit && install -d -o policysplit /data
ENV POLICYSPLIT_DATA_DIR=/data POLICYSPLIT_HOST=0.0.0.0
VOLUME /data
COPY requirements.lock ./

# torch first, exactly pinned; the lock file then constrains the rest, without the developers' tools.
# EXTRAS="trainer,tracing,vllm" adds vLLM.
FROM base AS trainer
RUN pip install "$(grep '^torch==' requirements.lock)"
COPY pyproject.toml setup.py README.md LICENSE ./
COPY app ./app
COPY migrations ./migrations
COPY trainer ./trainer
COPY worker ./worker
ARG EXTRAS="trainer,tracing"
RUN pip install --constraint requirements.lock ".[${EXTRAS}]"
USER policysplit
WORKDIR /home/policysplit
CMD ["policysplit", "worker"]

# The graders are here for the API that tries them, and checks tasks before it takes a job.
FROM base AS control-plane
COPY pyproject.toml setup.py README.md LICENSE ./
COPY app ./app
COPY migrations ./migrations
COPY trainer ./trainer
COPY worker ./worker
RUN pip install --constraint requirements.lock ".[graders,tracing]"
USER policysplit
WORKDIR /home/policysplit
EXPOSE 8700
CMD ["policysplit", "api"]
