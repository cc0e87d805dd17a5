"""The form that an answer must have: OpenAI's ``response_format``, of a served request and of a run."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class JsonSchema(BaseModel):
    """A JSON schema with a name."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True, validate_by_name=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Name of the format; letters, digits, _ and -, up to 64",
    )
    description: str | None = Field(default=None, description="Purpose of the format; not shown to the model")
    schema_: dict[str, object] = Field(alias="schema", description="The JSON schema that answers must fit")
    strict: bool | None = Field(default=None, description="Ignored: answers always fit the schema")


class ResponseFormat(BaseModel):
    """Text, any JSON object, or JSON that matches a schema."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="text: anything; json_object: any JSON object; json_schema: JSON that fits json_schema"
    )
    json_schema: JsonSchema | None = Field(
        default=None, description="The format; only with the type json_schema"
    )

    @property
    def restricts(self) -> bool:
        """Whether there are texts that it does not allow."""
        return self.type != "text"

    @model_validator(mode="before")
    @classmethod
    def _is_not_flat(cls, value: object) -> object:
        if isinstance(value, dict) and ("schema" in value or "name" in value):
            raise ValueError(
                "name and schema are next to type, as in the Responses API; put them in json_schema: "
                "{'type': 'json_schema', 'json_schema': {'name': …, 'schema': …}}"
            )
        return value

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise ValueError("json_schema is only allowed with the type 'json_schema'")
        return self
