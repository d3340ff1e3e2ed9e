"""Query parameters: those that a route declares, each once."""

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from payments.api.problems import Malformed


async def refuse_stray_parameters(request: Request) -> None:
    """Stands before every route, also the ones to come.

    Raises:
        Malformed: a parameter that the route does not know, or one given twice, of which others may read the other.
    """
    if not request.scope["query_string"]:
        return
    given = [name for name, _ in request.query_params.multi_items()]
    route = request.scope["route"]
    known = _declared(route.dependant) if isinstance(route, APIRoute) else frozenset()
    if not known.issuperset(given):
        raise Malformed("There is a query parameter that is not known here.")
    if len(set(given)) < len(given):
        raise Malformed("There is a query parameter more than once.")


def _declared(dependant: Dependant) -> frozenset[str]:
    names = {parameter.alias for parameter in dependant.query_params}
    return frozenset(names).union(*(_declared(inner) for inner in dependant.dependencies))
