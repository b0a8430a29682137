# What each target does: make help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One constraints file decides all versions; a changed one installs again.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

.PHONY: setup demo test test-long check bench experiment experiment-gpu runtimes fuzz face-reference fate android android-arm64 android-tools android-missing clean help FORCE
.DEFAULT_GOAL := help

setup: $(STAMP) ## install into .venv

demo: $(STAMP) ## run the whole pipeline on talking faces; VIDEOS=auto|real|synthetic
	$(BIN)/dfkit demo --videos $(or $(VIDEOS),auto)

check: $(STAMP) ## lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes of one thread each; a file's tests stay together, for they share what was converted or trained once.
test: check ## lint, type-check and test, without what takes long; what CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-long: $(STAMP) ## only the tests that are left out of test because they take long
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m long

bench: $(STAMP) ## measure the newest bundle, decoding and tracking, training, and single parts, on this machine
	$(BIN)/dfkit bench --allow-unjudged
	$(BIN)/python -m tools.speed.media_speed --out reports/media_speed.json
	$(BIN)/python -m tools.speed.training_speed --out reports/training_speed.json
	$(BIN)/python -m tools.speed.component_speed --out reports/component_speed.json

experiment: $(STAMP) ## leave-out rows of audit and baselines, and with CONFIG= those of networks and students; DATA= EQUALISED= CONFIG=
	$(BIN)/python -m tools.experiment $(DATA) $(if $(EQUALISED),--equalised $(EQUALISED)) $(if $(CONFIG),--config $(CONFIG))

# No stamp: a machine with a GPU has a Python of its own with torch; dfkit's extra train is what it needs.
experiment-gpu: ## the tests marked gpu, then networks and students of three seeds with families left out; DATA= CONFIG= JOBS= OUT=
	$(PYTHON) -m pytest -m gpu -q $$(grep -rl --include=test_*.py mark.gpu tests)
	OMP_NUM_THREADS=1 $(PYTHON) -m tools.folds.left_out --data $(DATA) --config $(CONFIG) \
		--workspace $(or $(OUT),reports/gpu) --seeds $(or $(SEEDS),3) --jobs $(or $(JOBS),16) --no-int8

runtimes: $(STAMP) ## replay a bundle on other versions of its runtimes, each in an environment of its own; BUNDLE=newest
	$(BIN)/python -m tools.runtimes.matrix $(BUNDLE) --out reports/runtimes.json

fuzz: $(STAMP) ## damaged and odd inputs of every kind, each in a process that may die; SECONDS=600 WORKERS=2 SEED=0
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.fuzz --seconds $(or $(SECONDS),600) --workers $(or $(WORKERS),2) \
		--seed $(or $(SEED),0) --out reports/fuzz.json

face-reference: $(STAMP) ## make the face tests' golden landmarks anew, with MediaPipe in an environment of its own
	$(BIN)/python tools/face_reference.py
	$(BIN)/python -m tests.media.make_golden

fate: $(STAMP) ## write the references of what is read of awkward files anew; needs the folder of DFKIT_SHARED
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.media.fate

# Maven of Debian 12 and JDK 17; the aapt package brings aapt2. What is missing is named before anything is built.
ANDROID := android_demo/build
ANDROID_TOOLS := mvn:maven javac:openjdk-17-jdk-headless aapt2:aapt zipalign:zipalign apksigner:apksigner
STARTER := $(patsubst %/manifest.json,%,$(wildcard dfkit/starter/bundle/manifest.json))
ANDROID_BUNDLE = $(or $(BUNDLE),$(STARTER),$(ANDROID)/bundle)
ANDROID_SOURCES = $(shell find android_demo -type f -not -path '*/build/*' -not -path '*/target/*' -not -name '*.md')

android: $(ANDROID)/dfkit-demo.apk ## build and test the app, android_demo/build/dfkit-demo.apk; BUNDLE=exports/NAME
	$(BIN)/python tools/android/check_apk.py $(ANDROID)/*.apk
	$(BIN)/python -m tools.android.check_answer $(ANDROID)/screens/bench.json $(ANDROID_BUNDLE)

# The APK is written behind all tests: one that is newer than all that goes into it has passed them.
$(ANDROID)/dfkit-demo.apk: $(ANDROID)/golden/golden.json $(ANDROID)/phone/manifest.json $(ANDROID_SOURCES) \
		tools/android/apk.py tests/golden/decision/decision.json
	cd android_demo && MAVEN_OPTS="$${MAVEN_OPTS:--Xmx1g}" mvn --batch-mode package \
		-Dbundle=$(abspath $(ANDROID_BUNDLE)) -Dpython=$(abspath $(BIN)/python)

# The natives of linux-arm64 on an emulated ARM: the numbers of a phone's processor, not its speed.
android-arm64: $(ANDROID)/arm64.replayed ## replay golden vectors with the natives of arm64, under qemu

$(ANDROID)/arm64.replayed: $(ANDROID)/dfkit-demo.apk $(ANDROID)/arm64/bin/java
	cd android_demo && mvn --batch-mode surefire:test -pl core -Dbundle=$(abspath $(ANDROID_BUNDLE)) -Dnatives=linux-arm64 \
		-Djvm=$(abspath $(ANDROID)/arm64/bin/java) -DargLine=-Ddfkit.interpreters=3 -Dtest='GraphsTest,DecisionTest'
	touch $@

$(ANDROID)/arm64/bin/java: tools/android/emulated_arm.py | $(STAMP)
	$(BIN)/python -m tools.android.emulated_arm --out $(ANDROID)/arm64

android-tools:
	@missing="$$($(MAKE) --silent --no-print-directory android-missing)"; test -z "$$missing" || \
		{ echo "programs that the app is built with are missing. Fix: apt-get install $$missing" >&2; exit 1; }

android-missing: # Debian's packages that the app is built with and that are not there, in one line
	@for pair in $(ANDROID_TOOLS); do \
		command -v $${pair%%:*} > /dev/null || printf '%s ' $${pair##*:}; done

# Another bundle gives other answers: its name is kept, and the files are made anew where it changes.
$(ANDROID)/bundle.name: FORCE
	@mkdir -p $(ANDROID)
	@echo '$(ANDROID_BUNDLE)' | cmp --silent - $@ || echo '$(ANDROID_BUNDLE)' > $@

$(ANDROID)/bundle/manifest.json: tools/android/bundle.py $(shell find dfkit/export dfkit/models -name '*.py') | android-tools $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.android.bundle --out $(ANDROID)/bundle

$(ANDROID)/golden/golden.json: $(ANDROID_BUNDLE)/manifest.json $(ANDROID)/bundle.name \
		$(shell find tools/android dfkit/runtime dfkit/media dfkit/measures -name '*.py') | android-tools $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.android.golden --bundle $(ANDROID_BUNDLE) --out $(ANDROID)/golden

$(ANDROID)/phone/manifest.json: $(ANDROID_BUNDLE)/manifest.json $(ANDROID)/bundle.name tools/android/phone_bundle.py
	$(BIN)/python -m tools.android.phone_bundle $(ANDROID_BUNDLE) $(ANDROID)/phone

FORCE:

clean: ## remove what the demo and the tests made; .venv stays
	rm -rf data/demo-* runs/demo* exports/demo* reports/demo build dist android_demo/build android_demo/*/target .pytest_cache .mypy_cache .ruff_cache *.egg-info

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/:/' | awk -F': ' '{printf "  make %-16s %s\n", $$1, $$2}'
