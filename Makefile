# `make` alone says what there is. ARGS goes to the command: make test ARGS="-k ocr"
.DEFAULT_GOAL := help
.PHONY: help demo demo-llm demo-finetune run setup test lint lint-docker clean settle wheels images

PY := .venv/bin/python
# Where it is set, every start of Python compiles all that it imports anew: seconds each.
unexport PYTHONDONTWRITEBYTECODE
# Two processes of tests, a file's together: its engines and servers are loaded once. One that dies
# ends the run at once, with the name of the test that was under way.
TWO := -n 2 --dist loadfile --max-worker-restart 0

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: setup ## install what is missing, then show the platform at work
	@$(PY) manage.py demo $(ARGS)

demo-llm: ## train a small language model, serve it, and ask it with OpenAI's client
	@scripts/setup.sh demo-llm
	@$(PY) manage.py demo_llm $(ARGS)

demo-finetune: ## train a LoRA adapter on a small dataset, compare before and after, call it
	@scripts/setup.sh demo-finetune
	@$(PY) manage.py demo_finetune $(ARGS)

run: setup ## the whole platform in one process, without other servers
	@$(PY) manage.py run $(ARGS)

setup: ## .venv and the system's programs; quick when nothing has changed
	@scripts/setup.sh demo

test: ## the test suite, on a real PostgreSQL and Redis; the core on SQLite, too
	@scripts/setup.sh test
	@[ -n '$(ARGS)' ] || $(PY) -m pytest -q $(TWO) --db=sqlite tests/mlops tests/ocr/test_api.py \
		-m "not e2e and not faults"
	@$(PY) -m pytest $(if $(ARGS),$(ARGS),$(TWO))

lint: ## style, layers, Django's checks, missing migrations
	@scripts/setup.sh lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports
	$(PY) manage.py check --fail-level WARNING
	$(PY) manage.py makemigrations --check --dry-run

lint-docker: ## images and stack: presets, Dockerfiles, scripts, compose.yml, bake file
	@scripts/setup.sh lint
	@docker/lint.sh

env: ## .env with strong secrets, for compose.yml
	@docker/env.sh

PRESET ?= cpu-py311-torch2.13

images: ## build the images: PRESET=cpu-py311-torch2.13 TAG=1.0.0 (ARGS="web llm": these alone)
	@docker/images.sh build $(PRESET) $(ARGS)

images-save: ## all images of PRESET into FILE=images.tar.gz, for a closed network
	@docker/images.sh save $(PRESET) $(or $(FILE),images.tar.gz)

images-load: ## and out of it again
	@docker/images.sh load $(or $(FILE),images.tar.gz)

images-push: ## all images of PRESET to REGISTRY=registry.example.org/mlops/
	@docker/images.sh push $(PRESET)

settle: ## today's locks as the layer that new requirements come on top of
	@docker/settle.sh

wheels: ## fetch the wheels of PRESET into docker/wheels, to build without an index
	@docker/wheels.sh $(PRESET)

backup: ## database and files of the running stack into a folder of its own below var/backups
	@scripts/backup.sh

restore: ## FROM=var/backups/…: put the stack back to that backup
	@scripts/restore.sh $(FROM)

clean: ## remove .venv and caches; data in var/ stays
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
