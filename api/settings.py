"""Settings of the service: environment variables ``ATELIER_…``, a TOML file, defaults. The table is in
docs/deployment.md."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from .errors import SettingsError

MIB = 1024 * 1024


def config_file() -> Path:
    """The configuration file of this user: ``config.toml`` in the platform's folder for configuration."""
    return platformdirs.user_config_path("comfy-atelier", appauthor=False) / "config.toml"


class Settings(BaseSettings):
    """What can be set. A keyword argument wins over the environment, the environment over the file, the file over the
    default.

    The file's keys are the fields' names at its top level (``comfyui = "/srv/ComfyUI"``); other tables are other
    tools'.
    """

    model_config = SettingsConfigDict(env_prefix="ATELIER_", extra="ignore", frozen=True)

    comfyui: str | None = Field(None, description="A running ComfyUI's address, or the path of a checkout to start.")
    comfyui_python: str | None = Field(None, description="The Python that runs the checkout.")
    models: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="Folders laid out like ComfyUI's `models`, separated as in PATH: where the embedded engine, a"
        " started ComfyUI and `atelier models` look for model files.",
    )
    workers: int = Field(1, ge=1, le=64, description="Workers, each with an engine of its own.")

    data_dir: Path | None = Field(
        None,
        description="Folder for jobs, uploads and artifacts; without it one folder per bundle in the user data folder.",
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of the job store (PostgreSQL); without it an SQLite file in the data folder."
    )
    retention_hours: float = Field(
        168.0, ge=0, description="Finished jobs, their artifacts and uploads are deleted after this; 0 keeps them."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="How often a job is started before it counts as failed.")
    max_queue: int = Field(1000, ge=1, description="Jobs that may wait; one more is answered 429.")
    lease_seconds: float = Field(
        15.0, ge=1.0, le=3600.0, description="A running job whose service says nothing for so long is started again."
    )
    shutdown_seconds: float = Field(
        10.0, ge=0.0, description="How long running jobs may go on after a stop was asked for; then they are put back."
    )

    max_body_bytes: int = Field(64 * MIB, ge=1024, description="Size of a request's body at most.")
    max_parts: int = Field(100, ge=1, description="Parts in a multipart body at most.")
    body_seconds: float = Field(
        30.0, gt=0, description="A body must arrive within this, plus the time it takes at 64 KiB a second."
    )
    max_image_pixels: int = Field(40_000_000, ge=1, description="Width times height of a picture at most.")
    max_image_side: int = Field(16_384, ge=1, description="Width and height of a picture at most.")
    image_seconds: float = Field(4.5, gt=0, description="How long one picture may take to be checked.")
    image_processes: int = Field(1, ge=1, le=32, description="Child processes that check pictures.")

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Keys, separated by commas; with any, callers must send one. Each key sees its own jobs only."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins, separated by commas, whose pages may call the service from a browser (CORS)."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names, separated by commas, by which callers may address a service that listens on loopback"
        " (behind a proxy, say); localhost is always one.",
    )
    heartbeat_seconds: float = Field(15.0, gt=0, description="Pause between comments on a silent event stream.")

    @field_validator("models", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part for part in value.split(os.pathsep) if part.strip()]
        return tuple(Path(part).expanduser() for part in value)

    @field_validator("api_keys", "allowed_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part for part in (part.strip() for part in value.split(",")) if part)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keyword arguments, environment, file; the file is looked for when settings are made, not when this is
        imported."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file()))

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            raise SettingsError(
                f"setting {name}: {first['msg'][:1].lower()}{first['msg'][1:]}",
                remedy=f"see ATELIER_{name.upper()} and {config_file()}",
            ) from error
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{config_file()}: {error}", remedy="it must be readable TOML; correct it or move it away"
            ) from error
