# higan as a training job: what `docker run` is given are the command line's own words.
#
#     docker build -t higan .                                                  TensorFlow on CPUs
#     docker build -t higan --build-arg DEVICE=gpu .                           TensorFlow on NVIDIA GPUs
#     docker build -t higan --build-arg BACKEND=jax --build-arg DEVICE=gpu .   JAX on NVIDIA GPUs
#
#     docker run -v data:/data -v runs:/runs higan train /data/recipe.toml
FROM debian:bookworm-slim

ARG BACKEND=tensorflow
ARG DEVICE=cpu

ENV KERAS_BACKEND=${BACKEND} \
    PATH=/opt/higan/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=3

# Debian keeps no old versions to pin; the release is pinned above.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/higan \
 && useradd --uid 1000 --create-home higan \
 && install -d -o higan -g higan /data /runs

# Libraries before the package: they are loaded anew only when they change.
WORKDIR /opt/source
COPY deploy/constraints.txt deploy/requirements.py pyproject.toml ./
RUN python3 requirements.py "$BACKEND" "$DEVICE" > requirements.txt \
 && pip install -r requirements.txt -c constraints.txt

COPY . .
RUN pip install --no-deps . && rm -rf /opt/source/*

# Recipes name data/… and runs are written to runs/…: both are mounted below here.
WORKDIR /
USER 1000
ENTRYPOINT ["higan"]
CMD ["--help"]
