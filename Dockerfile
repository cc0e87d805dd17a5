# One image for every part: docker-compose.yml says which command a container runs. EXTRAS="[vllm]" adds vLLM.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/policysplit

# A C compiler: pycosat, of reasoning-gym, comes as source, and Triton compiles a GPU's kernels when it runs.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

# torch first, exactly pinned; the lock file then constrains the rest, without the developers' tools.
COPY requirements.lock ./
RUN pip install "$(grep '^torch==' requirements.lock)"
COPY pyproject.toml README.md ./
COPY app ./app
COPY migrations ./migrations
COPY trainer ./trainer
COPY worker ./worker
ARG EXTRAS=""
RUN pip install --constraint requirements.lock ".${EXTRAS}"

# Files, models and runs: the API, the workers and the inference workers share this volume.
RUN useradd --create-home --uid 1000 policysplit && install -d -o policysplit /data
USER policysplit
WORKDIR /home/policysplit
ENV POLICYSPLIT_DATA_DIR=/data POLICYSPLIT_HOST=0.0.0.0
VOLUME /data
EXPOSE 8700
CMD ["policysplit", "api"]
