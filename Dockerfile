# llmrec without a GPU: docs/docker.md. The final stage has Python, llmrec and its libraries, and no compilers.
FROM python:3.11.13-slim-bookworm AS build

# pip reads these by itself. The build of torch without several GB of CUDA libraries comes from an index of its own, or
# as a wheel in a folder wheels/ beside this file (docs/decisions/0001-dependencies.md).
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN python -m venv /opt/llmrec
WORKDIR /src
COPY pyproject.toml README.md LICENSE wheel[s]/*.whl ./
COPY llmrec_cli llmrec_cli
COPY configs configs
COPY scripts/retrain.sh scripts/
RUN /opt/llmrec/bin/pip install --find-links /src .
RUN /opt/llmrec/bin/python -c "import sys, torch; sys.exit(torch.version.cuda and 'pip chose a torch for GPUs. \
Give the index of the CPU builds: docker build --build-arg PIP_EXTRA_INDEX_URL=<index>, or put the wheel into wheels/')"

FROM python:3.11.13-slim-bookworm

RUN useradd --uid 10001 llmrec && mkdir /data && chown llmrec /data
COPY --from=build /opt/llmrec /opt/llmrec
# With docker run --user there is no home folder: libraries write their small files to /tmp.
ENV PATH=/opt/llmrec/bin:$PATH HOME=/tmp USER=llmrec OMP_WAIT_POLICY=PASSIVE
USER 10001
WORKDIR /data
ENTRYPOINT ["llmrec"]
CMD ["--help"]
