from collections.abc import Mapping
from pathlib import Path

import pytest

from payments.local.plan import SANDBOX_KEYS, CannotRun, Plan, Ports, make_plan, value_of


def a_plan(environ: Mapping[str, str] | None = None) -> Plan:
    return make_plan(
        environ or {},
        Ports(9000),
        data=Path(".data"),
        payments_url="payments db",
        shop_url="shop db",
        events_secret="whsec_of_the_run",
        key_file=Path("data", "shop-api-key"),
    )


def told(plan: Plan, name: str) -> Mapping[str, str]:
    [environment] = [program.environment for program in (*plan.lasting, plan.migrate) if program.name == name]
    return environment


class TestPlan:
    def test_sandbox_stands_in_for_toss(self) -> None:
        plan = a_plan()

        api, shop, sandbox = (told(plan, name) for name in ("api", "shop", "sandbox"))
        assert api["TOSS_API_URL"] == "http://127.0.0.1:9100"
        assert shop["SHOP_TOSS_SDK_URL"] == "http://127.0.0.1:9100/v2/standard"
        assert sandbox["TOSS_WEBHOOK_URL"] == "http://127.0.0.1:9000/webhook/toss"
        assert {name: api[name] for name in sandbox if name in api} == SANDBOX_KEYS

    def test_worker_and_migration_are_told_what_the_api_is_told(self) -> None:
        plan = a_plan()

        assert told(plan, "worker") == told(plan, "migrate") == told(plan, "api")

    def test_payments_and_shop_know_each_other(self) -> None:
        plan = a_plan()

        assert told(plan, "api")["ORDERS_URL"] == "http://127.0.0.1:9200/api"
        assert told(plan, "api")["ALLOWED_ORIGINS"] == "http://127.0.0.1:9200,http://localhost:9200"
        assert told(plan, "shop")["SHOP_PAYMENTS_URL"] == "http://127.0.0.1:9000"
        assert told(plan, "worker")["EVENTS_URL"] == "http://127.0.0.1:9200/api/events"
        assert told(plan, "worker")["EVENTS_SECRETS"] == told(plan, "shop")["SHOP_EVENTS_SECRETS"] == "whsec_of_the_run"

    def test_each_has_its_own_database(self) -> None:
        plan = a_plan()

        assert told(plan, "api")["DATABASE_URL"] == "payments db"
        assert told(plan, "shop")["SHOP_DATABASE_URL"] == "shop db"

    def test_own_keys_go_to_toss_itself(self) -> None:
        plan = a_plan({"TOSS_CLIENT_KEY": "test_ck_own", "TOSS_SECRET_KEY": "test_sk_own"})

        assert "sandbox" not in [program.name for program in plan.lasting]
        assert not [name for name in told(plan, "api") if name.startswith("TOSS_")]
        assert told(plan, "shop")["SHOP_TOSS_SDK_URL"] == "https://js.tosspayments.com/v2/standard"

    @pytest.mark.parametrize("variable", ["ORDERS_URL", "ORDERS_URL_FILE"])
    def test_what_the_user_set_is_left_alone(self, variable: str) -> None:
        plan = a_plan({variable: "set"})

        assert "ORDERS_URL" not in told(plan, "api")

    def test_keys_do_not_show(self) -> None:
        assert "test_sk_" not in repr(a_plan())


class TestValue:
    def test_comes_from_a_file_as_well(self, tmp_path: Path) -> None:
        file = tmp_path / "url"
        file.write_text("postgresql+psycopg://db\n")

        assert value_of({"DATABASE_URL_FILE": str(file)}, "DATABASE_URL") == "postgresql+psycopg://db"

    def test_unreadable_file_is_named_by_its_variable(self) -> None:
        with pytest.raises(CannotRun, match="DATABASE_URL_FILE"):
            value_of({"DATABASE_URL_FILE": "/nowhere"}, "DATABASE_URL")


class TestKeys:
    @pytest.mark.parametrize("name", ["TOSS_CLIENT_KEY", "TOSS_SECRET_KEY"])
    def test_come_in_pairs(self, name: str) -> None:
        with pytest.raises(CannotRun, match="pair"):
            a_plan({name: "test_ck_own"})
