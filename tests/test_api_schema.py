"""Whatever is sent, in or out of the OpenAPI document: answers it describes, and never an error of ours."""

import httpx
import pytest
import schemathesis
from api_kit import fill, serving
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from facechain import bootstrap

load_all_checks()
# A document cannot say all that makes a request fit: consent, names, cursors that were given out.
LEFT_OUT = CHECKS.get_by_names(["positive_data_acceptance"])


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    from facechain.api.app import create_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACECHAIN_WORKSPACE", str(tmp_path_factory.mktemp("schema")))
        patch.setenv("FACECHAIN_MODELS", str(models.absolute()))
        bootstrap.studio.cache_clear()
        fill("ann", ("ada", "bea"), 2)
        token = bootstrap.users().add("ann", "ann")
        with serving(create_app()) as address:
            yield address, {"Authorization": f"Bearer {token}"}
    bootstrap.studio.cache_clear()


@pytest.fixture(scope="module")
def api(server):
    document = httpx.get(f"{server[0]}/openapi.json").json()
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=server[0])
    return loaded


@pytest.mark.parametrize("examples", [2, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_sent_is_answered_as_described(api, server, mode, examples):
    """`mode`: what the document allows, or what it does not."""
    failures = []
    for found in api.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def send(case):
            case.call_and_validate(headers=server[1], excluded_checks=LEFT_OUT)

        try:
            send()
        except Unsatisfiable:  # nothing in it can be wrong
            pass
        except (Exception, FailureGroup) as failure:
            failures.append(f"{operation.label}: {failure}")
    assert not failures, "\n".join(failures)
