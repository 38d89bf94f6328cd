# matscout on a CPU. Build: docker build -t matscout .    Predict crystals of this folder without training:
#   docker run --rm -v "$PWD":/crystals matscout matscout predict /crystals/my.cif
# The two commands of the README: docker run --rm -it matscout make repro   (or: make test)
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /matscout
COPY . .
# setup takes torch's build for CPUs where it can be had; TORCH_ARGS="--index-url URL" names another index
ARG TORCH_ARGS=""
ENV PIP_NO_CACHE_DIR=1
RUN git config --global --add safe.directory /matscout \
  && (git rev-parse >/dev/null 2>&1 || (git init -q && git add -A && git -c user.name=matscout -c user.email=matscout@example.org commit -qm "as built")) \
  && make setup
ENV PATH="/matscout/.venv/bin:$PATH"
CMD ["matscout", "--help"]
