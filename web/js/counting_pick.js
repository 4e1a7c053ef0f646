// ReVersion Prompts counts `pick` up with every queued run, so that a run count of 100 draws 100 prompts. Once the queue
// is empty it goes back to the first prompt that was not drawn, where runs were cancelled, failed or taken out.
import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

app.registerExtension({
    name: "ReVersion.CountingPick",
    nodeCreated(node) {
        if (node.comfyClass !== "ReVersionPrompts") return
        const pick = node.widgets?.find(widget => widget.name === "pick")
        if (!pick) return
        let counted = null // what counting has left in the widget; another value is the artist's own
        pick.afterQueued = () => {
            const leftOut = node.mode === 2 || node.mode === 4 // muted or bypassed
            if (pick.value >= 0 && !leftOut) counted = ++pick.value
        }

        let current = null, latest = null, undone = null
        const onExecuted = node.onExecuted
        node.onExecuted = function (output) {
            onExecuted?.apply(this, arguments)
            if (output?.pick) current = latest = output.pick[0]
        }
        const stopped = () => {
            if (current !== null) undone = Math.min(undone ?? current, current)
        }
        const listeners = {
            execution_start: () => (current = null),
            execution_interrupted: stopped,
            execution_error: stopped,
            status: ({ detail }) => {
                if (detail?.exec_info?.queue_remaining !== 0 || latest === null) return
                const next = undone ?? latest + 1
                if (pick.value === counted && counted > next) counted = pick.value = next
                current = latest = undone = null
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
