// ReVersion Prompts counts `pick` up with every queued run, so that a run count of 100 draws 100 prompts.
import { app } from "../../../scripts/app.js"

app.registerExtension({
    name: "ReVersion.CountingPick",
    nodeCreated(node) {
        if (node.comfyClass !== "ReVersionPrompts") return
        const pick = node.widgets?.find(widget => widget.name === "pick")
        if (pick)
            pick.afterQueued = () => {
                if (pick.value >= 0) pick.value++
            }
    },
})
