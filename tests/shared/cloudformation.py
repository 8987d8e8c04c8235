"""`template.yaml` as CloudFormation would see it: parameters filled in, conditions decided, references as names.

A reference to a resource reads as its logical id, an attribute as `Table.Arn`. That is enough to say what a statement
is about.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PSEUDO = {
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:111122223333:stack/quaymaster/1",
    "AWS::StackName": "quaymaster",
}
NO_VALUE = object()
_VARIABLE = re.compile(r"\$\{([^}]+)}")

type Tree = Mapping[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation's functions."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Tree:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(cast(yaml.MappingNode, node), deep=True)
    return {suffix: value}


_Loader.add_multi_constructor("!", _short_form)  # pyright: ignore[reportUnknownMemberType]


@dataclass(frozen=True, kw_only=True)
class Template:
    """The template with one set of parameters."""

    parameters: Tree
    resources: Tree
    function_defaults: Tree

    def of_type(self, kind: str) -> dict[str, Tree]:
        """Properties of the resources of a type, by logical id."""
        return {name: found["Properties"] for name, found in self.resources.items() if found["Type"] == kind}

    @property
    def functions(self) -> dict[str, Tree]:
        """The functions' properties, with what all functions share."""
        return {
            name: {**self.function_defaults, **own} for name, own in self.of_type("AWS::Serverless::Function").items()
        }


def source() -> Tree:
    """The template as it is written, intrinsic functions as `{"Ref": …}`, `{"Sub": …}` and so on."""
    return cast(Tree, yaml.load((REPOSITORY / "template.yaml").read_text(), Loader=_Loader))


def load(**parameters: str) -> Template:
    """The template deployed with these parameters, and the defaults of the others."""
    document = source()
    values = {name: declared.get("Default") for name, declared in document["Parameters"].items()} | parameters
    evaluate = _Evaluation(values | PSEUDO, document["Conditions"])
    resources = {
        name: evaluate.value({key: part for key, part in declared.items() if key != "Condition"})
        for name, declared in document["Resources"].items()
        if "Condition" not in declared or evaluate.condition(declared["Condition"])
    }
    return Template(
        parameters=document["Parameters"],
        resources=resources,
        function_defaults=evaluate.value(document["Globals"]["Function"]),
    )


def listed(value: Any) -> list[Any]:
    """A list of what may be written as one value."""
    return cast(list[Any], value) if isinstance(value, list) else [value]


def strings(node: Any) -> Iterator[str]:
    """Every string in a tree."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for part in cast(Tree, node).values():
            yield from strings(part)
    elif isinstance(node, list):
        for part in cast(list[Any], node):
            yield from strings(part)


class _Evaluation:
    """CloudFormation's functions, as far as the template uses them."""

    def __init__(self, known: Tree, conditions: Tree) -> None:
        self._known = known
        self._conditions = conditions

    def condition(self, name: str) -> bool:
        return self._decide(self._conditions[name])

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            parts = [self.value(part) for part in cast(list[Any], node)]
            return [part for part in parts if part is not NO_VALUE]
        if not isinstance(node, Mapping):
            return node
        tree = cast(Tree, node)
        if len(tree) == 1:
            name, argument = next(iter(tree.items()))
            function = {"Ref": self._ref, "GetAtt": str, "Sub": self._sub, "Join": self._join, "If": self._if}.get(name)
            if function:
                return function(argument)
        values = {key: self.value(part) for key, part in tree.items()}
        return {key: part for key, part in values.items() if part is not NO_VALUE}

    def _decide(self, node: Tree) -> bool:
        name, argument = next(iter(node.items()))
        if name == "Equals":
            left, right = (self.value(part) for part in argument)
            return left == right
        if name == "Not":
            return not self._decide(argument[0])
        raise AssertionError(f"{name} is a condition that this reading of the template does not know")

    def _ref(self, name: str) -> Any:
        return NO_VALUE if name == "AWS::NoValue" else self._known.get(name, name)

    def _sub(self, text: str) -> str:
        return _VARIABLE.sub(lambda found: self._filled(found[1]), text)

    def _filled(self, name: str) -> str:
        """What `${name}` becomes; `${!name}` is for others to fill."""
        return f"${{{name[1:]}}}" if name.startswith("!") else str(self._ref(name))

    def _join(self, argument: list[Any]) -> str:
        separator, parts = argument
        found = self.value(parts)
        return separator.join(found) if isinstance(found, list) else found

    def _if(self, argument: list[Any]) -> Any:
        name, then, otherwise = argument
        return self.value(then if self.condition(name) else otherwise)
