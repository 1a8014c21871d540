"""From a plan, the profiles of its pools and export.yaml to the one Fleet that all targets read.

What is in none of them is guessed, and every guess is a note: it stands in the files and is told.

max_model_len, most tokens of one request, where export.yaml gives none:
    the model's context, or the KV cache of one rank where that is smaller (nine tenths of one that
    is only computed), in whole blocks of 16; a longer request of the question may have all of a
    cache, and one that is longer than that is told of: it will be refused
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planner import __version__
from planner.errors import Fault, InputError
from planner.export.dns_names import dns_name, dns_names
from planner.export.fleet import (
    MILLION,
    Address,
    ClassRoute,
    Engine,
    Fleet,
    HostedEngine,
    Secret,
)
from planner.export.gpu_names import PRODUCT, GpuNames, Maker, maker_of, names_of
from planner.export.images import engine_image, mixed_makers, rb_image
from planner.export.lengths import longest_tokens
from planner.export.profile_facts import (
    engine_name,
    kv_tokens,
    max_model_len,
    measured_with,
    memory_ratio,
    rank_tokens,
    weights_gib,
)
from planner.files.faults import unknown_name
from planner.files.plans import plan_hash, plan_text, routes_of
from planner.files.write import canonical_json
from planner.nearest import nearest
from planner.spec.endpoints import Server
from planner.spec.export import EngineName, ExportSettings, ModelExport, PoolExport
from planner.spec.inputs import QuestionFiles
from planner.spec.plan import DeployedPool, PeriodPlan, Plan, Routes
from planner.spec.pool import Profile
from planner.spec.sheet import ServingSheet

ENGINE_PORT = 8000
_QUANTISED = frozenset({"fp8", "int8", "fp4", "int4", "mxfp4", "awq", "gptq"})


@dataclass(frozen=True)
class Source:
    """What an export is made of."""

    plan: Plan
    profiles: Mapping[str, Profile]  # by pool
    files: QuestionFiles | None = None  # the question, where it is there: how long requests are
    sheet: ServingSheet | None = None
    settings: ExportSettings = field(default_factory=ExportSettings)
    endpoints: Mapping[str, Sequence[Server]] = field(default_factory=dict)


def fleet_of(source: Source, period: str | None = None, engine: EngineName | None = None) -> Fleet:
    """Returns what is to run by a plan, in one of its periods where it has several.

    Args:
        source: the plan and what it is deployed with.
        period: its name; by default the busiest.
        engine: start every pool with this one, whatever it was measured with.

    Raises:
        InputError: the plan has no such period, or a pool of it has no profile.
    """
    each = _period(source.plan, period)
    plan = source.plan if each is None else source.plan.in_period(each)
    at = None if each is None else each.name
    faults = [
        Fault("plan.json", f"deployment.{entry.pool}", "has no profile", "give --profiles DIR")
        for entry in plan.deployment
        if entry.pool not in source.profiles
    ]
    if faults:
        raise InputError(faults)
    is_whole = at is None or at == (source.plan.periods.busiest if source.plan.periods else None)
    sheet = source.sheet if is_whole else None
    routes = routes_of(plan)
    making = _Making(source, plan, routes, sheet, engine)
    labels = dns_names([entry.pool for entry in plan.deployment])
    own = [e for e in plan.deployment if source.profiles[e.pool].pool.gpu is not None]
    hosted = [e for e in plan.deployment if source.profiles[e.pool].pool.gpu is None]
    engines = tuple(making.engine(entry, labels[entry.pool]) for entry in own)
    providers = tuple(making.hosted(entry, labels[entry.pool]) for entry in hosted)
    settings = source.settings
    return Fleet(
        title=plan.title,
        plan_hash=plan_hash(source.plan),
        rb_version=__version__,
        cost_usd_per_h=plan.predicted.cost_usd_per_h if each is None else each.paid_usd_per_h,
        period=at,
        engines=engines,
        hosted=providers,
        routes=making.routes(),
        has_cascades=bool(plan.cascades),
        address=Address(
            namespace=settings.namespace,
            port=settings.port,
            class_header=settings.class_header,
            gateway_name=settings.gateway.name,
            gateway_class=settings.gateway.gateway_class,
            hostname=settings.gateway.hostname,
        ),
        token_secret=_token_secret(settings),
        images={"rb": rb_image(__version__)} | {str(n): i for n, i in settings.images.items()},
        plan_files=_plan_files(plan, routes, sheet),
        notes=tuple(
            dict.fromkeys([*_plan_notes(source, at, sheet), *making.notes, *mixed_makers(engines)])
        ),
        token_env=settings.token_env,
        client_key_env=settings.client_key_env,
    )


# ---- The plan ------------------------------------------------------------------------------------


def _period(plan: Plan, period: str | None) -> PeriodPlan | None:
    """Returns one period of a plan, the busiest where none is named; None of a plan without any."""
    if plan.periods is None:
        if period is None:
            return None
        what = f"the plan has no periods, got {period}"
        raise InputError.single("--period", "", what, "leave the option out")
    wanted = period if period is not None else plan.periods.busiest
    for each in plan.periods.each:
        if each.name == wanted:
            return each
    names = [each.name for each in plan.periods.each]
    raise InputError([unknown_name("--period", "", wanted, names, "period")])


def _plan_notes(source: Source, at: str | None, sheet: ServingSheet | None) -> Iterator[str]:
    """Yields what the files do not say of the plan."""
    if source.files is not None and source.files.router is not None:
        yield (
            "router.npz is not among the files: copy it into the folder that rb serve reads, or it "
            "knows a request's class only where the client says it"
        )
    known = [*source.profiles, *(p.pool.model_name for p in source.profiles.values())]
    for name in source.endpoints:
        if name not in known:
            near = "".join(f"; did you mean {other}?" for other in nearest(name, known))
            yield f"{name} of endpoints.yaml is no pool and no model of the profiles{near}"
    periods = source.plan.periods
    if periods is None or at is None:
        return
    others = [each.name for each in periods.each if each.name != at]
    yield f"this is period {at} of the plan; export the others with --period: {', '.join(others)}"
    if at != periods.busiest and sheet is None:
        yield f"serving.json is of period {periods.busiest}, so it is not among the files"


def _plan_files(plan: Plan, routes: Routes, sheet: ServingSheet | None) -> dict[str, str]:
    """Returns what `rb serve` reads: without a sheet, models are those of plan.json."""
    files = {"routes.json": canonical_json(routes.model_dump(mode="json", by_alias=True))}
    if sheet is None:
        return {**files, "plan.json": plan_text(plan)}
    own = sheet.model_copy(update={"plan_hash": routes.plan_hash})
    return {**files, "serving.json": canonical_json(own.model_dump(mode="json", by_alias=True))}


def _token_secret(settings: ExportSettings) -> Secret:
    named = settings.token_secret
    return Secret("huggingface", "token") if named is None else Secret(named.name, named.key)


# ---- Pools and routes ----------------------------------------------------------------------------


@dataclass
class _Making:
    """A fleet while it is made: the notes grow as something has to be guessed."""

    source: Source
    plan: Plan
    table: Routes
    sheet: ServingSheet | None
    forced: EngineName | None
    notes: list[str] = field(default_factory=list)

    def engine(self, entry: DeployedPool, label: str) -> Engine:
        """Returns how one pool of own replicas is started."""
        profile = self.source.profiles[entry.pool]
        pool, gpu = profile.pool, profile.gpu
        assert pool.gpu is not None
        own, model = self._said(entry)
        called = self._called(pool.gpu)
        maker = self._maker(pool.gpu, called)
        name, image = self._engine_and_image(profile, own, maker)
        weights = self._weights(entry, profile, own, model)
        memory_gib = gpu.memory_gib if gpu is not None else 80.0
        servers = self._servers(entry)
        ranks = pool.data_parallel
        return Engine(
            pool=entry.pool,
            model_name=entry.model_name,
            dns_name=label,
            engine=name,
            measured_with=measured_with(profile),
            image=image,
            weights=weights,
            revision=own.revision or (None if own.weights else model.revision),
            trust_remote_code=model.trust_remote_code,
            served_model_name=_served_name(servers, entry.model_name),
            gpu=pool.gpu,
            gpu_resource=called.resource,
            maker=maker,
            node_selector=self._node_selector(pool.gpu, own),
            replicas=entry.replicas,
            tensor_parallel=pool.tensor_parallel,
            pipeline_parallel=pool.pipeline_parallel,
            data_parallel=ranks,
            gpus_per_replica=pool.replica_gpus,
            gpu_memory_ratio=own.gpu_memory_ratio or memory_ratio(profile, memory_gib),
            gpu_compute_ratio=pool.share.compute_ratio if pool.share else None,
            # A profile is of a whole replica, an engine takes the places of each of its ranks.
            max_num_seqs=-(-pool.max_num_seqs // ranks) if pool.max_num_seqs else None,
            max_num_batched_tokens=pool.max_num_batched_tokens,
            max_model_len=self._max_model_len(profile, own, model),
            weight_precision=pool.weight_precision,
            kv_precision=pool.kv_precision,
            kv_capacity_tokens=kv_tokens(profile),
            prefix_caching=self._cached_ratio(entry.pool) > 0,
            port=ENGINE_PORT,
            extra_args=self._extra_args(profile.name, name, own),
            env=own.env,
            urls=tuple(_base(server.url) for server in servers),
            quantization=own.quantization,
            gpu_memory_gib=memory_gib,
            gpus_per_node=gpu.gpus_per_node if gpu is not None else 8,
            weights_gib=weights_gib(profile),
            skypilot_gpu=called.skypilot,
            ray_gpu=called.ray,
            placement=tuple(p.gpus for p in self.plan.placement if p.pool == entry.pool),
            served_aliases=tuple(self.table.classes),
            cached_input_ratio=self._cached_ratio(entry.pool),
            api_key_env=self._key_of(entry.pool, servers),
        )

    def hosted(self, entry: DeployedPool, label: str) -> HostedEngine:
        """Returns who answers for a pool that is paid by the request."""
        servers = self._servers(entry)
        if not servers:
            self.notes.append(
                f"where {entry.pool} is hosted is not known: give its url and api_key_env in "
                "endpoints.yaml"
            )
        return HostedEngine(
            pool=entry.pool,
            dns_name=label,
            url=_base(servers[0].url) if servers else None,
            model_name=_served_name(servers, entry.model_name),
            api_key_env=self._key_of(entry.pool, servers),
            max_rps=self.source.profiles[entry.pool].pool.max_rps or 0.0,
        )

    def _servers(self, entry: DeployedPool) -> Sequence[Server]:
        """Returns the servers of a pool: its own, or its model's where no other pool has it."""
        found = self.source.endpoints.get(entry.pool, ())
        of_model = [d for d in self.plan.deployment if d.model_name == entry.model_name]
        if not found and len(of_model) == 1:
            return self.source.endpoints.get(entry.model_name, ())
        return found

    def _key_of(self, pool: str, servers: Sequence[Server]) -> str | None:
        """Returns the variable with the key of a pool's servers: all have the same one here."""
        named = list(dict.fromkeys(server.api_key_env for server in servers))
        if len(named) > 1:
            said = ", ".join(name or "none" for name in named)
            self.notes.append(
                f"the servers of {pool} have different keys in endpoints.yaml ({said}): all get "
                "the first one"
            )
        return named[0] if named else None

    def routes(self) -> tuple[ClassRoute, ...]:
        """Returns where each class goes, in whole millionths, largest first (§6)."""
        found = []
        for name, entries in self.table.classes.items():
            shares = {entry.pool: round(entry.share * MILLION) for entry in entries}
            largest = sorted(shares.items(), key=lambda each: (-each[1], each[0]))
            usable = self._usable(name)
            found.append(
                ClassRoute(
                    class_name=name,
                    dns_name=dns_name(name),
                    shares=tuple((pool, n) for pool, n in largest if n > 0),
                    fallback=tuple(
                        pool
                        for pool in self.table.fallback.get(name, ())
                        if pool in shares or pool in usable
                    ),
                )
            )
        return tuple(found)

    def _usable(self, class_name: str) -> set[str]:
        """Returns the pools that a class may use, as far as the sheet says."""
        if self.sheet is None or class_name not in self.sheet.classes:
            return set()
        return set(self.sheet.classes[class_name].answers)

    def _said(self, entry: DeployedPool) -> tuple[PoolExport, ModelExport]:
        """Returns what export.yaml says of a pool and of its model."""
        settings = self.source.settings
        own = settings.pools.get(entry.pool, PoolExport())
        return own, settings.models.get(entry.model_name, ModelExport())

    def _engine_and_image(
        self, profile: Profile, own: PoolExport, maker: Maker | None
    ) -> tuple[EngineName, str]:
        """Returns the engine that is started, and its image of the version that was measured."""
        measured = engine_name(profile.pool.engine)
        name = self.forced or own.engine or measured or "vllm"
        if name != measured:
            was = measured_with(profile)
            self.notes.append(
                f"{profile.name} was measured with {was}, and is started with {name}: its speed "
                "may be another, measure it (rb profile run)"
                if was is not None
                else f"nobody wrote down which engine {profile.name} was measured with: it is "
                f"started with {name}"
            )
        if own.image is not None and own.engine in (None, name):
            return name, own.image
        if name in self.source.settings.images:
            return name, self.source.settings.images[name]
        version = profile.pool.engine_version if name == measured else None
        image, doubt = engine_image(name, version, profile.pool.gpu or "", maker)
        if doubt is not None:
            self.notes.append(
                f"{profile.name} gets the image {image}, and {doubt}: give pools: "
                f"{{{profile.name}: {{image: ...}}}} in export.yaml"
            )
        return name, image

    def _extra_args(self, pool: str, name: EngineName, own: PoolExport) -> tuple[str, ...]:
        """Returns the further words of a pool, none where they are said of another engine."""
        if not own.extra_args or own.engine in (None, name):
            return own.extra_args
        self.notes.append(f"extra_args of {pool} are for {own.engine}, {name} gets none of them")
        return ()

    def _weights(
        self, entry: DeployedPool, profile: Profile, own: PoolExport, model: ModelExport
    ) -> str:
        """Returns the repository of a pool's weights, the model's name where nobody says it."""
        given = own.weights or model.weights
        precision, of_cache = profile.pool.weight_precision, profile.pool.kv_precision
        if given is None:
            self.notes.append(
                f"the weights of {entry.model_name} are not known: its name stands for them; give "
                f"models: {{{entry.model_name}: {{weights: ORG/REPOSITORY}}}} in export.yaml"
            )
        if precision in _QUANTISED and own.weights is None and own.quantization is None:
            self.notes.append(
                f"{entry.pool} was measured with weights in {precision}: give pools: "
                f"{{{entry.pool}: {{weights: ...}}}}, or quantization where the engine makes them"
            )
        if of_cache in _QUANTISED - {"fp8"} and "--kv-cache-dtype" not in own.extra_args:
            self.notes.append(
                f"{entry.pool} was measured with a KV cache in {of_cache}, and gets the engine's "
                f"default: give pools: {{{entry.pool}: {{extra_args: [--kv-cache-dtype, ...]}}}}"
            )
        return given or entry.model_name

    def _called(self, gpu: str) -> GpuNames:
        """Returns what other tools call a kind of GPU; what export.yaml says of it counts."""
        called, said = names_of(gpu), self.source.settings.gpus.get(gpu)
        if said is None:
            return called
        return GpuNames(
            resource=said.resource or called.resource,
            product=called.product,
            skypilot=said.skypilot or called.skypilot,
            ray=said.ray or called.ray,
        )

    def _maker(self, gpu: str, called: GpuNames) -> Maker | None:
        """Returns who makes a kind of GPU: by the resource of export.yaml, else by its name."""
        said = self.source.settings.gpus.get(gpu)
        if said is None or said.resource is None:
            maker = maker_of(gpu)
            if maker is None:
                self.notes.append(
                    f"{gpu} is no GPU of NVIDIA or AMD, and {called.resource} stands for it: give "
                    f"gpus: {{{gpu}: {{resource: ...}}}} in export.yaml"
                )
            return maker
        makers: dict[str, Maker] = {"nvidia.com": "nvidia", "amd.com": "amd"}
        return makers.get(said.resource.partition("/")[0], maker_of(gpu))

    def _node_selector(self, gpu: str, own: PoolExport) -> dict[str, str]:
        """Returns the labels of the nodes that a pool may run on; none where nobody knows them."""
        said, product = self.source.settings.gpus.get(gpu), names_of(gpu).product
        if own.node_selector:
            return own.node_selector
        if said is not None and said.node_selector is not None:
            return said.node_selector
        if product is not None:
            return {PRODUCT: product}
        self.notes.append(
            f"the labels of nodes with {gpu} are not known: give gpus: {{{gpu}: {{node_selector: "
            "...}} in export.yaml, or any node with enough GPUs is taken"
        )
        return {}

    def _cached_ratio(self, pool: str) -> float:
        """Returns the largest part of prompts that the plan takes from the cache of a pool."""
        files = self.source.files
        if files is None:
            return 0.0
        here = self._classes_at(pool)
        ratios = [c.cached_input_ratio for c in files.question.classes if c.name in here]
        return max(ratios, default=0.0)

    def _classes_at(self, pool: str) -> tuple[str, ...]:
        """Returns the classes that may come to a pool: routed, in a cascade, or as a fallback."""
        found = []
        for name, entries in self.table.classes.items():
            stages = [entries]
            for cascade in self.table.cascades.get(name, ()):
                stages += [cascade.first, cascade.second]
            is_routed = any(e.pool == pool and e.share > 0 for stage in stages for e in stage)
            if is_routed or pool in self._usable(name):
                found.append(name)
        return tuple(found)

    def _max_model_len(self, profile: Profile, own: PoolExport, model: ModelExport) -> int | None:
        """Returns the most tokens of one request to a pool; None: the engine reads it off."""
        given = own.max_model_len or model.max_model_len
        longest = self._longest_tokens(profile)
        if given is not None:
            cache = rank_tokens(profile)
            if cache is not None and given > cache[1]:
                self.notes.append(
                    f"max_model_len of {profile.name} is {given}, and by the plan its KV cache "
                    f"holds {cache[1]} tokens: the engine may not start"
                )
            if given < longest:
                self.notes.append(
                    f"max_model_len of {profile.name} is {given}, the question has requests of "
                    f"{longest} tokens: they will be refused"
                )
            return given
        most = max_model_len(profile, longest)
        cache = rank_tokens(profile)
        if most is not None and longest > most:
            self.notes.append(
                f"{profile.name} takes requests of {most} tokens, the question has some of "
                f"{longest}: they will be refused"
            )
        elif cache is not None and longest > cache[0]:
            self.notes.append(
                f"the KV cache of {profile.name} may be too small for its longest request of "
                f"{longest} tokens: the engine says so as it starts"
            )
        return most

    def _longest_tokens(self, profile: Profile) -> int:
        """Returns the tokens of the longest request that may come to a pool; 0: not known."""
        files = self.source.files
        if files is None:
            return 0
        named = {c.name for c in files.question.classes}
        here = [name for name in self._classes_at(profile.name) if name in named]
        scored_as = profile.pool.scored_as
        return max((longest_tokens(files, name, scored_as) for name in here), default=0)


# ---- Names -------------------------------------------------------------------------------------


def _base(url: str) -> str:
    """Returns the base address of a server, ending in /v1."""
    bare = url.rstrip("/")
    return bare if bare.endswith("/v1") else f"{bare}/v1"


def _served_name(servers: Sequence[Server], model_name: str) -> str:
    names = [server.served_model_name for server in servers if server.served_model_name]
    return names[0] if names else model_name
