"""The kinds of bad input, by section: a table of what is given and what the answer is."""

from __future__ import annotations

from collections.abc import Mapping

from tests.scenarios.bad_input_kinds import (
    FORMS,
    NAMES,
    NOWHERE,
    OPERANDS,
    ROOTS,
    BadInput,
    bad_name,
    bad_package,
    bad_python,
    bad_source,
    bad_spec,
    bad_variable,
    unsolvable,
    wrong_type,
)
from xinference_venv import errors

SECTIONS: Mapping[str, tuple[BadInput, ...]] = {
    "Names": (
        bad_name("An empty name", "", "it is empty"),
        bad_name("The parent folder", "..", "it names a directory relative to another"),
        bad_name("An absolute path", "/etc/passwd", "it contains '/'"),
        bad_name("A name with a slash", "models/glow", "it contains '/'"),
        bad_name("A control character", "glow\n", "it contains '\\n'"),
        bad_name("White space", "my model", "it contains ' '"),
        bad_name("A name that is too long", "x" * 300, "it has 300 bytes, more than 255", "'xxx…"),
        bad_name("A number instead of a name", 7, "it is not a string"),
        BadInput(
            title="An engine name with a slash",
            request={"model_engine": "../vllm"},
            error=errors.InvalidName,
            message="Invalid engine name '../vllm': it contains '/'",
            hint=NAMES,
        ),
        BadInput(
            title="An unknown model",
            request={"model_name": "magika-2", "virtualenv": None},
            error=errors.UnknownModel,
            message="The catalogue has no model 'magika-2'",
            hint="Did you mean magika-1, magika-0.6, magika-0.5? Give its specification with --spec"
            " FILE (JSON in Xinference's model format).",
        ),
        BadInput(
            title="An unknown job",
            job="4711",
            error=errors.UnknownJob,
            message="there is no job '4711'",
            hint="it ended long ago, or all its workers were restarted",
        ),
    ),
    "Requirements": (
        bad_package("An empty line", "", "it is empty", FORMS),
        bad_package(
            "The placeholder of an unknown engine",
            "#vlm_dependencies#",
            "the catalogue has no engine vlm",
            "Known are diffusers, …, vllm. A package of this name needs a version, like >=0.",
        ),
        bad_package(
            "An unknown placeholder",
            "#host_numpy#",
            "unknown placeholder",
            "Known are #system_NAME# and #ENGINE_dependencies#.",
        ),
        bad_package(
            "A broken marker",
            "numpy ; has_cuda ==",
            "Invalid marker 'has_cuda ==', character 12: it ends too early",
            OPERANDS,
        ),
        bad_package(
            "An unknown variable in a marker",
            "numpy ; gpu == 'yes'",
            "Invalid marker \"gpu == 'yes'\", character 1: gpu is not expected",
            OPERANDS,
        ),
        bad_package(
            "A broken version",
            "numpy==",
            "it is not PEP 508: Expected …",
            FORMS,
        ),
        bad_package(
            "An option of pip",
            "--index-url=https://index.example/simple/",
            "it is an option of pip",
            "Indexes and find-links have fields of their own, apart from the packages.",
        ),
        bad_package(
            "A line break in a requirement",
            "numpy\n--pre",
            "it contains a control character, a line break or another that can't be printed",
            "Give one requirement in one line of visible text.",
        ),
        bad_package(
            "A local path",
            "./lantern",
            "it looks like a local path",
            "Archives are given as file:///absolute/path/name-1.0-py3-none-any.whl.",
        ),
        bad_package(
            "A URL with an unsupported scheme",
            "lantern @ ftp://host/lantern-1.0-py3-none-any.whl",
            "its URL has the scheme ftp",
            "Allowed are …, git+https, …, http, https, ….",
        ),
        unsolvable(
            "A package that does not exist",
            ["lanternn"],
            "lanternn was not found in the package registry and you require lanternn, we can"
            " conclude that your requirements are unsatisfiable.",
            NOWHERE,
        ),
        unsolvable(
            "A version that does not exist",
            ["lantern==3.0"],
            "there is no version of lantern==3.0 and you require lantern==3.0, we can conclude"
            " that your requirements are unsatisfiable.",
            NOWHERE,
        ),
        unsolvable(
            "Requirements that contradict each other",
            ["lantern==1.0", "wick>=2"],
            "only wick==1.0 is available and you require wick>=2, we can conclude that your"
            " requirements are unsatisfiable.",
            "ask for other versions",
        ),
    ),
    "Where packages come from": (
        bad_source(
            "An index URL without a scheme",
            "index_url",
            "index.example/simple",
            "Invalid index URL 'index.example/simple': it does not begin with http://, https://"
            " or file://",
        ),
        bad_source(
            "A broken index URL; its password is not shown",
            "extra_index_url",
            "https://user:secret@index example/",
            "Invalid extra index URL 'https://****@index example/': it contains spaces or control"
            " characters",
        ),
        bad_source(
            "An unknown index strategy",
            "index_strategy",
            "best",
            "Invalid index strategy 'best'",
            "Allowed are first-index, unsafe-first-match, unsafe-best-match.",
        ),
        bad_source(
            "A trusted host that is a URL",
            "trusted_host",
            "https://index.example",
            "Invalid trusted host 'https://index.example': it is neither host nor host:port",
        ),
        BadInput(
            title="Find-links of a launch where the operator allows none",
            request={"virtual_env_find_links": ["/srv/wheels"]},
            error=errors.InvalidSource,
            message="Find-links folder '/srv/wheels' is not allowed on this host",
            hint=f"{ROOTS} names the folders that are allowed: none so far.",
        ),
        BadInput(
            title="Find-links that are relative",
            environ={ROOTS: "/srv/wheels"},
            request={"virtual_env_find_links": ["wheels"]},
            error=errors.InvalidSource,
            message="Find-links folder 'wheels' is not an absolute path",
            hint=f"{ROOTS} names the folders that are allowed.",
        ),
        BadInput(
            title="Find-links outside of what is allowed",
            environ={ROOTS: "/srv/wheels"},
            request={"virtual_env_find_links": ["/srv/wheels/../.."]},
            error=errors.InvalidSource,
            message="Find-links folder '/srv/wheels/../..' is not an existing directory in an"
            " allowed folder",
            hint=f"{ROOTS} names the folders that are allowed.",
        ),
        BadInput(
            title="Find-links that are not there",
            environ={ROOTS: "/usr"},
            request={"virtual_env_find_links": ["/usr/no-such-wheels"]},
            error=errors.InvalidSource,
            message="Find-links folder '/usr/no-such-wheels' is not an existing directory in an"
            " allowed folder",
            hint=f"{ROOTS} names the folders that are allowed.",
        ),
    ),
    "Python": (
        bad_python("A Python version that is not a number", "three"),
        bad_python("A Python version without a minor part", "3"),
        bad_python("A number instead of a string, which turns 3.10 into 3.1", 3.1),
        bad_python("Python 2", "2.7"),
        BadInput(
            title="A Python version that this host does not have",
            request={"python_version": "3.99"},
            error=errors.PythonNotFound,
            message="Python 3.99 is not on this host; found: …",
            hint="ask for one of these, install it, or let uv download it with"
            " XINFERENCE_VIRTUAL_ENV_PYTHON_DOWNLOADS=1",
        ),
    ),
    "Model specifications": (
        bad_spec(
            "A file that is cut off",
            '{"model_name": "glow",',
            "line 1, column 23: it is not JSON: Expecting property name enclosed in double quotes",
        ),
        bad_spec("A file without a name", '{"virtualenv": {}}', "model_name is missing"),
        bad_spec("JSON that is not an object or a list", '"glow"', "it is of type str"),
        bad_spec(
            "A file with an invalid model name",
            '{"model_name": "a/b"}',
            "Invalid model name 'a/b': it contains '/'",
            NAMES,
        ),
        wrong_type(
            "Packages that are not a list",
            "packages",
            "numpy",
            "virtualenv.packages is of type str, which is not allowed",
            "a list of strings",
        ),
        wrong_type(
            "A package that is not a string",
            "packages",
            ["numpy", 2],
            "virtualenv.packages[1] is of type int, which is not allowed",
            "a string",
        ),
        wrong_type(
            "A string instead of true or false",
            "inherit_pip_config",
            "yes",
            "virtualenv.inherit_pip_config is of type str, which is not allowed",
            "true or false",
        ),
    ),
    "Launches and settings": (
        BadInput(
            title="A string instead of true or false in a launch",
            request={"enable_virtual_env": "maybe"},
            error=errors.InvalidInput,
            message="enable_virtual_env is of type str, which is not allowed",
            hint="Allowed is true or false.",
        ),
        BadInput(
            title="An unknown inherit mode",
            request={"inherit": "all"},
            error=errors.InvalidInput,
            message="Invalid inherit mode 'all'",
            hint="Allowed are host, exact, none.",
        ),
        BadInput(
            title="A request of a later version",
            request={"version": 9},
            error=errors.InvalidInput,
            message="The launch request has version 9",
            hint="This version of xinference_venv reads version 1.",
        ),
        bad_variable(
            "A variable that should be true or false",
            "XINFERENCE_VIRTUAL_ENV_SKIP_INSTALLED",
            "maybe",
            "1, 0, true, false, yes, no, on and off",
        ),
        bad_variable(
            "A variable that should be a number",
            "XINFERENCE_VIRTUAL_ENV_BUILD_TIMEOUT",
            "1h",
            "whole numbers from 1 to 604800",
        ),
        bad_variable("A relative path as the home", "XINFERENCE_HOME", "here", "absolute paths"),
        BadInput(
            title="A uv that is not there",
            environ={"XOSCAR_UV_PATH": "/usr/no-such-uv"},
            error=errors.UvNotFound,
            message="XOSCAR_UV_PATH names '/usr/no-such-uv', which is not a program",
            hint="correct the variable, or unset it to use the uv package's own",
        ),
        BadInput(
            title="A host interpreter that is not there",
            environ={"XINFERENCE_VIRTUAL_ENV_HOST_PYTHON": "/usr/no-such-python"},
            error=errors.PythonNotFound,
            message="the interpreter /usr/no-such-python does not work: …",
            hint="start it in a shell to see why, or name another one",
        ),
    ),
}
