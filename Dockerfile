# docker build -t pi0_jax --target demo .                                       CPU
# docker build -t pi0_jax --target demo --build-arg ACCELERATOR=cuda12 .        NVIDIA GPUs (run with --gpus all)
# docker run pi0_jax                                                            make demo
# docker build -t pi0_serve --target serve [--build-arg ...] .                  a policy server
# docker run -p 8000:8000 -v POLICY:/policy:ro -e PI0_JAX_API_KEY=... pi0_serve
FROM debian:bookworm-slim AS demo
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates git libgl1 libglib2.0-0 libosmesa6 make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/pi0_jax
COPY . .
ARG ACCELERATOR=
RUN scripts/prepare.sh demo \
    && if [ -n "$ACCELERATOR" ]; then .venv/bin/pip install -q -c constraints.txt -e ".[$ACCELERATOR]"; fi
ENV PATH=/opt/pi0_jax/.venv/bin:$PATH
CMD ["make", "demo"]

FROM demo AS serve
RUN .venv/bin/pip install -q -c constraints.txt -e '.[serve]' \
    && useradd --create-home pi0
USER pi0
EXPOSE 8000
# Ends with SIGTERM, when what is in progress has its answer. PI0_JAX_API_KEY is asked for.
ENTRYPOINT ["pi0-serve", "--checkpoint", "/policy", "--host", "0.0.0.0"]
