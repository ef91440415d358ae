"""Every setting of the platform, read from the environment (`.env.example` documents each).

Nothing set: the embedded defaults (SQLite, a broker made of files, local storage, local MLflow).
"""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import environ

from mlops import console
from mlops.broker import register_transport, transport_options
from mlops.logs import logging_config
from mlops.secrets import embedded_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(env.str("ENV_FILE", str(BASE_DIR / ".env")), overwrite=False)

ENVIRONMENT = env.str("ENVIRONMENT", "embedded")
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.bool("DEBUG", False)
DATA_DIR = Path(env.str("DATA_DIR", str(BASE_DIR / "var"))).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)

SECRET_KEY = env.str("SECRET_KEY", "")
SECRET_KEY_FROM_ENV = bool(SECRET_KEY)
if not SECRET_KEY and not PRODUCTION:
    SECRET_KEY = embedded_secret_key(DATA_DIR)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
if PRODUCTION:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", True)
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 3600)
    SECURE_REDIRECT_EXEMPT = [r"^health$", r"^ready$", r"^metrics$"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("COOKIES_SECURE", PRODUCTION)
SESSION_COOKIE_HTTPONLY = True

# -- Applications ---------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_filters",
    "django_structlog",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "rest_framework",
    "mlops",
    "ocr",
    "llm",
    "finetune",
]
MIDDLEWARE = [
    "mlops.metrics.http.count_requests",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "mlops.policy.PolicyMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
# "all": the console and the APIs; "user": the APIs alone, for a port that the public reaches.
URLS = env.str("URLS", "all")
ROOT_URLCONF = "mlops.urls" if URLS == "all" else "mlops.urls_user"
ASGI_APPLICATION = "mlops.asgi.application"
AUTH_USER_MODEL = "mlops.User"
AUTHENTICATION_BACKENDS = ["mlops.policy.PolicyBackend"]
CERBOS_URL = env.str("CERBOS_URL", "")
CERBOS_TIMEOUT_SECONDS = env.float("CERBOS_TIMEOUT_SECONDS", 2)
# Its only table is replaced by ApiKey, but its migrations would make it all the same.
MIGRATION_MODULES = {"knox": None}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TZ", "Asia/Seoul")
USE_TZ = True

# -- Database -------------------------------------------------------------------------------

DATABASES = {"default": env.db_url("DATABASE_URL", f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
_options = DATABASES["default"].setdefault("OPTIONS", {})
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE takes the write lock when a transaction begins: a transaction that starts with a
    # read could not wait for the lock later and would fail at once with "database is locked".
    _options |= {
        "timeout": 30,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        "PRAGMA mmap_size=134217728; PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-16000",
    }
elif env.bool("DATABASE_POOL", True):
    # Of a server that was restarted all pooled connections are dead: each is tried before its use.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # Off for prefork workers, which fork after the pool exists (DATABASE_POOL=false there).
    _options["pool"] = {"min_size": 1, "max_size": env.int("DATABASE_POOL_SIZE", 10), "timeout": 10}

# -- Files ----------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", str(DATA_DIR / "static")))
SERVESTATIC_USE_FINDERS = not STATIC_ROOT.is_dir()
S3_BUCKET = env.str("S3_BUCKET", "")
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": env.str("MEDIA_ROOT", str(DATA_DIR / "media"))},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if S3_BUCKET:
    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "endpoint_url": env.str("S3_ENDPOINT_URL", "") or None,
            "region_name": env.str("S3_REGION", "us-east-1"),
            "location": env.str("S3_PREFIX", ""),
            "addressing_style": env.str("S3_ADDRESSING_STYLE", "path"),
            "default_acl": None,
            "querystring_auth": True,
            "file_overwrite": False,
        },
    }
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_MB", 100) * 1024 * 1024
# Of OpenAI's Files API: data for training and batches.
FILE_MAX_BYTES = env.int("FILE_MAX_MB", 512) * 1024 * 1024
# Addresses whose bodies may be larger than other uploads: bytes, and what raises them.
UPLOAD_LIMITS = {
    address: (FILE_MAX_BYTES, "FILE_MAX_MB")
    for address in ("/v1/files", "/api/v1/finetune/datasets", "/admin/finetune/dataset/add")
}
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FILES = 1000

# -- Celery ---------------------------------------------------------------------------------

QUEUES = tuple(env.list("QUEUES", default=["default", "ocr", "llm", "train"]))
REDIS_URL = env.str("REDIS_URL", "")
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "") or REDIS_URL or "filesystem://"
register_transport()
# Longer than any task that is acknowledged late; one name, because Redis reads it in three places.
VISIBILITY_TIMEOUT = env.int("VISIBILITY_TIMEOUT", 3600)
CELERY_BROKER_TRANSPORT_OPTIONS = transport_options(
    CELERY_BROKER_URL,
    folder=DATA_DIR / "broker",
    visibility_timeout=VISIBILITY_TIMEOUT,
    poll_seconds=env.float("BROKER_POLL_SECONDS", 0.2),
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_TIMEOUT = 4
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"visibility_timeout": VISIBILITY_TIMEOUT}
CELERY_VISIBILITY_TIMEOUT = VISIBILITY_TIMEOUT
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = timedelta(days=7)
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_TRACK_STARTED = True
# A job's row, not its message, says whether it is done: messages are acknowledged on receipt.
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = CELERY_BROKER_URL.startswith(("redis", "rediss"))
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TIMEZONE = TIME_ZONE
CELERY_BEAT_SCHEDULE = {
    "jobs-maintain": {"task": "mlops.jobs_maintain", "schedule": 30.0, "options": {"expires": 25}},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")
DJANGO_CELERY_RESULTS_TASK_ID_MAX_LENGTH = 191

# -- Jobs and engines -----------------------------------------------------------------------

JOB_LEASE_SECONDS = env.float("JOB_LEASE_SECONDS", 30)
JOB_MAX_ATTEMPTS = env.int("JOB_MAX_ATTEMPTS", 3)
# A queued row is sent again when its message is missing for this long.
JOB_RESEND_SECONDS = env.float("JOB_RESEND_SECONDS", 10)
MAINTENANCE_SECONDS = env.float("MAINTENANCE_SECONDS", 5)
# What the apps add to each round of maintenance: functions without arguments.
MAINTENANCE_STEPS = [
    "llm.upkeep.requests_expire",
    "llm.batch.upkeep.round_once",
    "llm.retrieval.wishes.index_when_due",
    "finetune.training.registry.versions_register",
]
# The same for workers alone: functions of the queues that the worker consumes.
WORKER_STEPS = [
    "mlops.alive.sign",
    "mlops.metrics.workers.tell",
    "llm.upkeep.models_keep",
    "finetune.sweeps.advance.sweeps_advance",
]
# Touched by a worker in each round, for health checks; "": none.
ALIVE_FILE = env.str("ALIVE_FILE", "")
QUEUE_SEEN_SECONDS = env.float("QUEUE_SEEN_SECONDS", 60)
READY_QUEUES = env.list("READY_QUEUES", default=["ocr"])

# Where several engines read a language, the first of them is chosen.
ENGINES = {
    "ocr": {
        "rapidocr": {"BACKEND": "ocr.engines.rapidocr.RapidOcrEngine"},
        "tesseract": {"BACKEND": "ocr.engines.tesseract.TesseractEngine"},
        "paddleocr": {
            "BACKEND": "ocr.engines.paddleocr.PaddleOcrEngine",
            "OPTIONS": {"cache_dir": str(DATA_DIR / "paddlex")},
        },
    }
    | env.json("OCR_ENGINES", {}),
    "llm": {
        "transformers": {"BACKEND": "llm.engines.transformers.TransformersEngine"},
        "openai": {"BACKEND": "llm.engines.openai.OpenAIEngine"},
    }
    | env.json("LLM_ENGINES", {}),
    # Where the vectors of passages are: a folder of the one worker of queue llm, or a server.
    "vectors": {
        "qdrant": {
            "BACKEND": "llm.retrieval.vectors.QdrantStore",
            "OPTIONS": {
                "url": env.str("QDRANT_URL", ""),
                "api_key": env.str("QDRANT_API_KEY", ""),
                "path": str(DATA_DIR / "qdrant"),
            },
        },
    },
}
# Functions that tell of further engines of a family: those that were trained.
ENGINE_LISTS = {"ocr": "ocr.trained.specs"}
OCR_DEVICE = env.str("OCR_DEVICE", "auto")
if OCR_DEVICE != "auto":
    for _entry in ENGINES["ocr"].values():
        _entry["OPTIONS"] = {"device": OCR_DEVICE} | _entry.get("OPTIONS", {})
MODEL_SERVER_URLS = env.list("OCR_MODEL_SERVER_URL", default=[])
MODEL_SERVER_TIMEOUT = env.float("MODEL_SERVER_TIMEOUT", 60)
MODEL_SERVER_TOKEN = env.str("MODEL_SERVER_TOKEN", "")
MODEL_SERVER_QUEUE = env.int("MODEL_SERVER_QUEUE", 64)
if MODEL_SERVER_URLS:
    ENGINES["ocr"]["remote"] = {
        "BACKEND": "ocr.engines.remote.RemoteOcrEngine",
        "OPTIONS": {
            "urls": MODEL_SERVER_URLS,
            "token": MODEL_SERVER_TOKEN,
            "timeout": MODEL_SERVER_TIMEOUT,
        },
    }
ENGINES_PRELOAD = env.list("ENGINES_PRELOAD", default=[])
OCR_DEFAULT_ENGINE = env.str("OCR_DEFAULT_ENGINE", "rapidocr")
OCR_MIN_CONFIDENCE = env.float("OCR_MIN_CONFIDENCE", 0.5)
OCR_DPI = env.int("OCR_DPI", 200)
OCR_MAX_PAGES = env.int("OCR_MAX_PAGES", 2000)
OCR_MAX_PIXELS = env.int("OCR_MAX_MEGAPIXELS", 150) * 1_000_000
OCR_SYNC_WAIT_SECONDS = env.float("OCR_SYNC_WAIT_SECONDS", 30)
# A document of more pages than this is read by all free workers at once.
OCR_SPREAD_PAGES = env.int("OCR_SPREAD_PAGES", 8)
# The folder of the storage below which batches may take documents in by prefix.
OCR_INBOX = env.str("OCR_INBOX", "inbox")

# Where a worker keeps the models that it has fetched from the storage or from MLflow.
MODELS_FOLDER = Path(env.str("MODELS_FOLDER", str(DATA_DIR / "models"))).resolve()

# -- Training -------------------------------------------------------------------------------

# Where trainers work: rows, checkpoints under way. A disk of the worker's own.
TRAINING_FOLDER = Path(env.str("TRAINING_FOLDER", str(DATA_DIR / "training"))).resolve()
# What a machine lends to one training at a time, by name; "auto": each GPU, or the CPU.
TRAINING_DEVICES = env.list("TRAINING_DEVICES", default=["auto"])
# For a trainer to save a checkpoint and end; after it, it is killed.
TRAINING_STOP_SECONDS = env.float("TRAINING_STOP_SECONDS", 120)
TRAINING_MAX_ATTEMPTS = env.int("TRAINING_MAX_ATTEMPTS", 10)
# Of a training on several machines: where the others reach this one; "": found out.
TRAINING_ADDRESS = env.str("TRAINING_ADDRESS", "")
# For as many workers to take part; then it fails.
TRAINING_JOIN_SECONDS = env.float("TRAINING_JOIN_SECONDS", 600)

# -- Search ---------------------------------------------------------------------------------

# "auto": every document that was read; "asked": those that somebody asks to have indexed.
LLM_INDEX = env.str("LLM_INDEX", "asked")
# The name of a language model; "": the first whose task is embeddings.
LLM_EMBEDDING_MODEL = env.str("LLM_EMBEDDING_MODEL", "")
# Some models want to be told which is which ("query: ", "passage: ").
LLM_QUERY_PREFIX = env.str("LLM_QUERY_PREFIX", "")
LLM_PASSAGE_PREFIX = env.str("LLM_PASSAGE_PREFIX", "")
LLM_SEARCH_WAIT_SECONDS = env.float("LLM_SEARCH_WAIT_SECONDS", 30)
# Called with `document_id` whenever what a document says has changed, in that transaction.
OCR_TEXT_LISTENERS = [
    "llm.retrieval.wishes.text_changed",
    "llm.services.text_fixes.auto_correct",
]
# The language model that corrects whatever is read, beside it; "": none, until somebody asks.
LLM_AUTO_CORRECT = env.str("LLM_AUTO_CORRECT", "")

# -- Extraction -----------------------------------------------------------------------------

# What extracts where a request names no model; "": the rules, which need none.
LLM_EXTRACTION_MODEL = env.str("LLM_EXTRACTION_MODEL", "")

# -- Language models ------------------------------------------------------------------------

# Of all models in a worker's memory: idle ones are dropped to keep within it. 0: no bound.
LLM_MEMORY_BYTES = env.int("LLM_MEMORY_MB", 0) * 1024 * 1024
LLM_SILENT_SECONDS = env.float("LLM_SILENT_SECONDS", 10)
LLM_QUEUE_SECONDS = env.float("LLM_QUEUE_SECONDS", 120)
LLM_STOP_SECONDS = env.float("LLM_STOP_SECONDS", 10)
# Of a batch: requests in flight at once, and in all.
LLM_BATCH_WINDOW = env.int("LLM_BATCH_WINDOW", 64)
LLM_BATCH_MAX_LINES = env.int("LLM_BATCH_MAX_LINES", 50_000)
# A request that failed for a reason that may pass waits so long, then four and sixteen times.
LLM_BATCH_RETRY_SECONDS = env.float("LLM_BATCH_RETRY_SECONDS", 2)
LLM_KEEP = timedelta(hours=env.float("LLM_KEEP_HOURS", 168))
# Of each API key, unless it has its own; 0: no limit.
LLM_REQUESTS_PER_MINUTE = env.int("LLM_REQUESTS_PER_MINUTE", 0)
LLM_TOKENS_PER_MINUTE = env.int("LLM_TOKENS_PER_MINUTE", 0)
LLM_TOKENS_PER_DAY = env.int("LLM_TOKENS_PER_DAY", 0)

# -- Webhooks -------------------------------------------------------------------------------

WEBHOOK_SECRET = env.str("WEBHOOK_SECRET", "")
WEBHOOK_ALLOW_NETWORKS = env.list("WEBHOOK_ALLOW_NETWORKS", default=[])
WEBHOOK_ALLOW_HTTP = env.bool("WEBHOOK_ALLOW_HTTP", False)
WEBHOOK_TIMEOUT_SECONDS = env.float("WEBHOOK_TIMEOUT_SECONDS", 15)
WEBHOOK_POLL_SECONDS = env.float("WEBHOOK_POLL_SECONDS", 1)

# -- Tracking -------------------------------------------------------------------------------

# "none" turns tracking off.
MLFLOW_TRACKING_URI = env.str("MLFLOW_TRACKING_URI", f"sqlite:///{DATA_DIR / 'mlflow.db'}")
MLFLOW_ARTIFACTS = env.str("MLFLOW_ARTIFACTS", str(DATA_DIR / "mlartifacts"))
# Where people open MLflow in a browser; links on jobs start here.
MLFLOW_UI_URL = env.str("MLFLOW_UI_URL", "http://localhost:5000")
TRACKING_GIVE_UP = timedelta(hours=env.int("TRACKING_GIVE_UP_HOURS", 24))
# While jobs are at work, runs are logged only once they have waited for this long.
TRACKING_BUSY = timedelta(seconds=env.int("TRACKING_BUSY_SECONDS", 60))

# -- Metrics --------------------------------------------------------------------------------

# What Prometheus sends to read /metrics; "": operators alone may, by their API keys.
METRICS_TOKEN = env.str("METRICS_TOKEN", "")
# What the apps tell there: mlops.metrics.sources.Source by dotted path.
METRIC_SOURCES = [
    "mlops.metrics.jobs.SOURCE",
    "ocr.metrics.SOURCE",
    "llm.metrics.SOURCE",
    "finetune.metrics.SOURCE",
]

# -- API ------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "mlops.auth.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "mlops.auth.PolicyAllows",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "mlops.api.Pagination",
    "EXCEPTION_HANDLER": "mlops.api.error_response",
    # `?format=` chooses a result's format, not DRF's renderer.
    "URL_FORMAT_OVERRIDE": None,
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": None, "TOKEN_PREFIX": "mk-"}
KNOX_TOKEN_MODEL = "mlops.ApiKey"
SPECTACULAR_SETTINGS = {
    "TITLE": "MLOps platform",
    "DESCRIPTION": "OCR, language models and fine-tuning on your own machines.",
    "VERSION": "1.0.0",
    "SERVE_PERMISSIONS": [
        "rest_framework.permissions.IsAuthenticated",
        "mlops.auth.PolicyAllows",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "JobStatusEnum": "mlops.models.Job.Status",
        "ModelInstanceStateEnum": "llm.models.ModelInstance.State",
        "DatasetStateEnum": "finetune.models.DatasetVersion.State",
        "TrainingPhaseEnum": "finetune.models.TrainingJob.Phase",
        "MergePhaseEnum": "finetune.models.VersionMerge.Phase",
    },
    "SCHEMA_PATH_PREFIX": r"/api/v1",
}

# -- Console --------------------------------------------------------------------------------

UNFOLD = console.UNFOLD

# -- Logs -----------------------------------------------------------------------------------

LOG_FORMAT = env.str("LOG_FORMAT", "json" if PRODUCTION else "console")
LOGGING = logging_config(fmt=LOG_FORMAT, level=env.str("LOG_LEVEL", "INFO"))
DJANGO_STRUCTLOG_CELERY_ENABLED = True
# Whose request it is: a proxy sets this one; the other headers of its kind anybody may send.
IPWARE_META_PRECEDENCE_ORDER = ("HTTP_X_FORWARDED_FOR", "REMOTE_ADDR")
# One line a request, when it ends; a job logs its own end.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_CELERY_TASK_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_CELERY_TASK_SUCCESS_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True
