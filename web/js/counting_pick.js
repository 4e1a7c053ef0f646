// ReVersion Prompts counts `pick` up with every queued run, so that a run count of 100 draws 100 prompts. Once the queue
// is empty it goes back to the first prompt that was not drawn, where runs were cancelled, failed or taken out.
import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

const NAME = "pick"

// The node of a graph, or of a subgraph in it, that stands for this subgraph; undefined where none or several do.
function standIn(subgraph, graph = app.rootGraph ?? app.graph) {
    const all = graph => graph.nodes.flatMap(node => (node.subgraph ? [node, ...all(node.subgraph)] : []))
    const found = all(graph).filter(node => node.subgraph === subgraph)
    return found.length === 1 ? found[0] : undefined
}

// The widget that a node's input is sent from: its own, or that of the subgraph's node where it is promoted.
function sentWidget(node, input, own) {
    const place = node.graph?.inputs?.findIndex(slot => slot.linkIds?.includes(input?.link)) ?? -1
    if (place < 0) return own
    const outer = standIn(node.graph)
    const slot = outer?.inputs[place]
    return slot && sentWidget(outer, slot, outer.getWidgetFromSlot(slot))
}

app.registerExtension({
    name: "ReVersion.CountingPick",
    nodeCreated(node) {
        if (node.comfyClass !== "ReVersionPrompts") return
        const own = node.widgets?.find(widget => widget.name === NAME)
        if (!own) return
        const widget = () => sentWidget(node, node.inputs?.find(input => input.widget?.name === NAME), own)
        let counted = null // what counting has left in the widget; another value is the artist's own
        const open = new Map() // number of a prompt -> how many runs were queued for it and did not draw it
        const count = (number, change) => open.set(number, (open.get(number) ?? 0) + change)
        own.afterQueued = function () {
            const pick = widget()
            if (this === pick && pick !== own) return // a copy of this function, which is called on both
            const leftOut = node.mode === 2 || node.mode === 4 // muted or bypassed
            if (!pick || pick.value < 0 || leftOut) return
            count(pick.value, 1)
            counted = ++pick.value
        }

        let current = null
        const onExecuted = node.onExecuted
        node.onExecuted = function (output) {
            onExecuted?.apply(this, arguments)
            if (!output?.pick) return
            current = output.pick[0]
            count(current, -1)
        }
        const stopped = () => {
            if (current !== null) count(current, 1)
            current = null
        }
        const listeners = {
            execution_start: () => (current = null),
            execution_interrupted: stopped,
            execution_error: stopped,
            status: ({ detail }) => {
                if (detail?.exec_info?.queue_remaining !== 0) return
                const first = Math.min(...[...open].filter(([, runs]) => runs > 0).map(([number]) => number))
                // Below 0: drawn before the page was told that it is queued.
                for (const [number, runs] of open) if (runs >= 0) open.delete(number)
                const pick = widget()
                if (pick && pick.value === counted && counted > first) counted = pick.value = first
            },
        }
        for (const [name, listener] of Object.entries(listeners)) api.addEventListener(name, listener)
        const onRemoved = node.onRemoved
        node.onRemoved = function () {
            onRemoved?.apply(this, arguments)
            for (const [name, listener] of Object.entries(listeners)) api.removeEventListener(name, listener)
        }
    },
})
