"""Parameter names of the released code -> names in stemlab."""

from __future__ import annotations

import re
from dataclasses import dataclass

TABLE = re.compile(r"embedding_layer\.embedding_layer\.embedding_layers\.(?P<field>.+)\.weight")
RULES = [
    (r"(?:stem|cgc)_layers\.(\d+)\.shared_experts\.(\d+)\.mlp\.(.+)", "shared_expert"),
    (r"(?:stem|cgc)_layers\.(\d+)\.specific_experts\.(\d+)\.(\d+)\.mlp\.(.+)", "specific_expert"),
    (r"(?:stem|cgc)_layers\.(\d+)\.gate\.(\d+)\.mlp\.(.+)", "mixture.layers.{0}.gates.{1}.{2}"),
    (r"[om]moe_layer\.experts\.(\d+)\.mlp\.(.+)", "mixture.layers.0.experts.{0}.{1}"),
    (r"mmoe_layer\.gate\.(\d+)\.mlp\.(.+)", "mixture.layers.0.gates.{0}.{1}"),
    (r"omoe_layer\.gate\.mlp\.(.+)", "mixture.layers.0.gates.0.{0}"),
    (r"bottom\.mlp\.(.+)", "bottom.{0}"),
    (r"bottom\.(\d+)\.mlp\.(.+)", "bottoms.{0}.{1}"),
    (r"g\.(\d+)\.(.+)", "transfers.{0}.{1}"),
    (r"h1\.(.+)", "value.{0}"),
    (r"h2\.(.+)", "key.{0}"),
    (r"h3\.(.+)", "query.{0}"),
    (r"tower\.(\d+)\.mlp\.(.+)", "tower"),
]


@dataclass(frozen=True)
class Names:
    """The mapping for one network.

    Attributes:
        model: model name in the released code.
        fields: field names in column order.
        tasks: number of tasks.
        specific: experts of each task (PLE, STEM).
    """

    model: str
    fields: tuple[str, ...]
    tasks: int
    specific: int

    def ours(self, reference: str) -> str:
        """Return the stemlab name; raise KeyError if no rule matches."""
        if match := TABLE.fullmatch(reference):
            return f"embedding.tables.{self.fields.index(match['field'])}.weight"
        for pattern, target in RULES:
            if match := re.fullmatch(pattern, reference):
                return self._target(target, match.groups())
        raise KeyError(reference)

    def _target(self, target: str, parts: tuple[str, ...]) -> str:
        if target == "shared_expert":
            layer, expert, rest = parts
            return f"mixture.layers.{layer}.experts.{self.tasks * self.specific + int(expert)}.{rest}"
        if target == "specific_expert":
            layer, task, expert, rest = parts
            return f"mixture.layers.{layer}.experts.{int(task) * self.specific + int(expert)}.{rest}"
        if target == "tower":
            tower, rest = parts
            if self.model == "ESMM":  # tower order is the reverse of label order
                return f"{('conversion', 'click')[int(tower)]}.{rest}"
            return f"towers.{tower}.{rest}"
        return target.format(*parts)


def fields_of(parameter_names: list[str]) -> tuple[str, ...]:
    """Return the field names in the order of their tables, which is the order of the id columns."""
    return tuple(match["field"] for name in parameter_names if (match := TABLE.fullmatch(name)))
