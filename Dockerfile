# The server on a CPU: docker build -t gpt2-lightning . && docker run -p 127.0.0.1:8000:8000 -e GPT2_LIGHTNING_API_KEY=KEY
#   -v ./runs:/app/runs:ro gpt2-lightning
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HF_HOME=/home/gpt2/.cache/huggingface
WORKDIR /source
# Torch for CPUs alone is a tenth as large as the one of PyPI.
RUN pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.10,<2.14"
COPY pyproject.toml README.md LICENSE ./
COPY gpt2_lightning gpt2_lightning
COPY hydra_plugins hydra_plugins
COPY lm_eval_plugin lm_eval_plugin
COPY conf conf
RUN pip install ".[serve,huggingface]" && useradd --create-home --uid 10001 gpt2

WORKDIR /app
USER gpt2
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["gpt2-lightning", "serve", "host=0.0.0.0"]
CMD ["checkpoint=latest"]
