"""YAML as DVC reads it too: 1e-3 is a number (YAML 1.2), and a key that is given twice is a fault."""

import re
from collections import Counter
from typing import Any

import yaml

NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")  # what YAML 1.1 takes for text


class StrictLoader(yaml.SafeLoader):
    """Safe: it makes plain values, and runs nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse keys that are given twice: the last one would count, whatever the reader saw first."""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, times in names.items() if times > 1]:
            raise yaml.MarkedYAMLError(f"`{twice[0]}` is given more than once", node.start_mark)
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def read_yaml(text: str) -> Any:
    """Plain values.

    Raises:
        yaml.YAMLError: it is no YAML, or gives a key twice.
    """
    return yaml.load(text, Loader=StrictLoader)
