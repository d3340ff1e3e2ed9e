"""What a route asks for."""

from typing import Annotated

from fastapi import Depends, Request

from payments.resources import Resources


def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


FromResources = Annotated[Resources, Depends(get_resources)]
