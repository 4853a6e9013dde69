# FaceChain in a container; docs/app.md says how.
#   docker build -t facechain .                              the template engine, on the processor
#   docker build -t facechain --build-arg DEVICE=cuda .      Stable Diffusion engines as well, on a GPU
# A tag may be moved; `bash scripts/pin_image` puts the digest behind it that its registry gives today.
FROM python:3.12-slim

# cpu, cuda, or cpu-diffusion: the diffusion engines with builds of torch for the processor alone.
ARG DEVICE=cpu

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 PIP_ROOT_USER_ACTION=ignore \
    FACECHAIN_WORKSPACE=/data/workspace FACECHAIN_MODELS=/data/models

RUN useradd --create-home --uid 1000 facechain && mkdir /data && chown facechain:facechain /data
WORKDIR /app
COPY requirements.txt requirements-setup.txt requirements-diffusion.txt requirements-overrides.txt requirements.lock ./
COPY scripts/install_locked scripts/install_locked
RUN case "$DEVICE" in \
      cpu) extras="" ;; \
      cuda) extras=diffusion ;; \
      cpu-diffusion) extras=diffusion; export UV_TORCH_BACKEND=cpu ;; \
      *) echo "DEVICE is cpu, cpu-diffusion or cuda, not '$DEVICE'." >&2; exit 2 ;; \
    esac; bash scripts/install_locked "$(command -v python)" $extras
COPY pyproject.toml README.md webui.py ./
COPY configs configs
COPY facechain facechain
RUN pip install --no-deps --editable . && python -m compileall -q facechain

USER facechain
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/v1/health', timeout=8)"]
# The server can be reached from outside the container, so nobody gets in without a token: facechain users add NAME
CMD ["python", "webui.py", "--host", "0.0.0.0"]
