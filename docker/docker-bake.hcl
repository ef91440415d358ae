# The family of images: what is built from which file, on which base, with which arguments.
# docker/images.sh fills the variables from a preset; `docker buildx bake --print` shows the result.

# -- From the preset (docker/preset.py env NAME) -------------------------------------------------
variable "PRESET" { default = "" }
variable "PRESET_TAG" { default = "" }
variable "KIND" { default = "cpu" }
variable "UPSTREAM" { default = "" }
variable "PYTHON" { default = "" }
variable "TOOLS" { default = "" }
variable "NUMERIC" { default = "" }
variable "TORCH" { default = "" }
variable "TORCH_INDEX" { default = "" }
variable "TENSORRT" { default = "" }
variable "TENSORRT_INDEX" { default = "" }
variable "PACKAGES" { default = "" }

# -- From the caller -----------------------------------------------------------------------------
# What the tags begin with: registry.example.org/mlops/
variable "REGISTRY" { default = "" }
variable "TAG" { default = "dev" }
variable "REVISION" { default = "" }
# A base that is there already, by name and content; empty: it is built on the way.
variable "BASE" { default = "" }
variable "BASE_DIGEST" { default = "" }
variable "UPSTREAM_DIGEST" { default = "" }
# The hash of all that goes into the base.
variable "INPUTS" { default = "" }
variable "WHEELS" { default = "docker/wheels" }
# An index of the house's own, in place of pypi.org.
variable "UV_DEFAULT_INDEX" { default = "" }
variable "HTTP_PROXY" { default = "" }
variable "HTTPS_PROXY" { default = "" }
variable "NO_PROXY" { default = "" }
# Layers kept between builds elsewhere: "gha" (GitHub's cache), or an image's name without a tag.
variable "CACHE" { default = "" }

function "cache" {
  params = [name, mode]
  result = CACHE == "" ? [] : CACHE == "gha" ? ["type=gha,scope=${name}-${PRESET_TAG}${mode}"] : ["type=registry,ref=${CACHE}:${name}-${PRESET_TAG}${mode}"]
}

function "tags" {
  params = [name]
  result = ["${REGISTRY}${name}:${TAG}-${PRESET_TAG}"]
}

# The base is known by its content too: as long as that is the same, it is not built again.
function "base_tags" {
  params = [name]
  result = concat(tags(name), ["${REGISTRY}${name}:${PRESET_TAG}-${INPUTS}"])
}

target "_common" {
  context    = "."
  args = {
    PYTHON           = PYTHON
    UV_DEFAULT_INDEX = UV_DEFAULT_INDEX
    HTTP_PROXY       = HTTP_PROXY
    HTTPS_PROXY      = HTTPS_PROXY
    NO_PROXY         = NO_PROXY
    VERSION          = TAG
    REVISION         = REVISION
    PRESET           = PRESET
  }
  contexts   = { wheels = WHEELS }
}

# -- Bases ---------------------------------------------------------------------------------------
target "_base" {
  inherits = ["_common"]
  args = {
    UPSTREAM        = UPSTREAM
    UPSTREAM_DIGEST = UPSTREAM_DIGEST
    INPUTS          = INPUTS
    TOOLS           = TOOLS
    NUMERIC         = NUMERIC
    TORCH           = TORCH
    TORCH_INDEX     = TORCH_INDEX
    TENSORRT        = TENSORRT
    TENSORRT_INDEX  = TENSORRT_INDEX
    PACKAGES        = PACKAGES
  }
}

target "ml-base" {
  inherits   = ["_base"]
  dockerfile = "docker/Dockerfile.ml-base"
  tags       = base_tags("backend-ml-base")
  cache-from = cache("ml-base", "")
  cache-to   = cache("ml-base", ",mode=max")
}

target "ml-gpu-base" {
  inherits   = ["_base"]
  dockerfile = "docker/Dockerfile.ml-gpu-base"
  tags       = base_tags("backend-ml-gpu-base")
  cache-from = cache("ml-gpu-base", "")
  cache-to   = cache("ml-gpu-base", ",mode=max")
}

# pip and uv for the builds of services; in no image.
target "tools" {
  inherits   = ["_base"]
  dockerfile = KIND == "gpu" ? "docker/Dockerfile.ml-gpu-base" : "docker/Dockerfile.ml-base"
  target     = "tools"
  tags       = []
  output     = ["type=cacheonly"]
}

# -- Services ------------------------------------------------------------------------------------
target "_model" {
  inherits = ["_common"]
  args = {
    BASE_NAME   = BASE
    BASE_DIGEST = BASE_DIGEST
  }
  contexts = {
    base  = BASE != "" ? "docker-image://${BASE}" : KIND == "gpu" ? "target:ml-gpu-base" : "target:ml-base"
    tools = "target:tools"
  }
}

target "ocr-cpu" {
  inherits   = ["_model"]
  dockerfile = "docker/Dockerfile.ocr-cpu"
  tags       = tags("ocr-cpu")
  cache-from = cache("ocr-cpu", "")
  cache-to   = cache("ocr-cpu", ",mode=max")
}

target "ocr-gpu" {
  inherits   = ["_model"]
  dockerfile = "docker/Dockerfile.ocr-gpu"
  tags       = tags("ocr-gpu")
  cache-from = cache("ocr-gpu", "")
  cache-to   = cache("ocr-gpu", ",mode=max")
}

target "llm" {
  inherits   = ["_model"]
  dockerfile = "docker/Dockerfile.llm"
  tags       = tags("llm")
  cache-from = cache("llm", "")
  cache-to   = cache("llm", ",mode=max")
}

target "train" {
  inherits   = ["_model"]
  dockerfile = "docker/Dockerfile.train"
  tags       = tags("train")
  cache-from = cache("train", "")
  cache-to   = cache("train", ",mode=max")
}

target "_slim" {
  inherits = ["_common"]
  args = {
    UPSTREAM    = UPSTREAM
    BASE_NAME   = UPSTREAM
    BASE_DIGEST = UPSTREAM_DIGEST
  }
  contexts = { tools = "target:tools" }
}

target "web" {
  inherits   = ["_slim"]
  dockerfile = "docker/Dockerfile.web"
  tags       = tags("web")
  cache-from = cache("web", "")
  cache-to   = cache("web", ",mode=max")
}

target "mlflow" {
  inherits   = ["_slim"]
  dockerfile = "docker/Dockerfile.mlflow"
  tags       = tags("mlflow")
  cache-from = cache("mlflow", "")
  cache-to   = cache("mlflow", ",mode=max")
}

group "default" { targets = KIND == "gpu" ? ["gpu"] : ["cpu"] }
group "cpu" { targets = ["ocr-cpu", "llm", "train", "web", "mlflow"] }
group "gpu" { targets = ["ocr-gpu", "llm", "train"] }
