# Two commands do everything on a fresh Debian machine with rustup: `make run` and `make test`. The work is in
# scripts/, one job a file; what is missing is installed by them and nothing that is there is touched.

PREFIX ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system
CONFDIR ?= /etc/tollgate

.PHONY: run engine test test-engines evaluate-scanner bench build install

# The gateway in front of three simulated servers, or of a real one: make run UPSTREAM=http://host:port. Ctrl-C stops all
# of it. target/run.env tells programs where it is.
run:
	scripts/run-demo.sh $(UPSTREAM)

# A real llama.cpp server with a small real model, for `make run UPSTREAM=http://127.0.0.1:8200`.
engine:
	scripts/run-engine.sh $(PORT)

# The gate, the same here and in CI.
test:
	scripts/test.sh

# vLLM, SGLang and transformers for real: 20 GB of packages, half an hour. ENGINES="vllm" takes one.
test-engines:
	scripts/test-engines.sh $(ENGINES)

# Recall and false alarms of the prompt scanner on labelled prompts, where they are.
evaluate-scanner:
	scripts/install-system.sh build
	scripts/evaluate-scanner.sh

bench:
	scripts/install-system.sh build
	cargo bench --locked --bench cost

build:
	scripts/install-system.sh build
	cargo build --release --locked

install: build
	install -D -m 0755 target/release/tollgate $(DESTDIR)$(PREFIX)/bin/tollgate
	install -d -m 0755 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(CONFDIR)
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|; s|/etc/tollgate|$(CONFDIR)|g' systemd/tollgate.service > $(DESTDIR)$(UNITDIR)/tollgate.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/tollgate.service
	install -m 0644 systemd/tollgate.socket $(DESTDIR)$(UNITDIR)/tollgate.socket
	# What an operator has edited stays.
	for file in conf/*.yaml; do \
	  name=$(DESTDIR)$(CONFDIR)/$$(basename $$file); [ -e $$name ] || install -m 0644 $$file $$name; done
