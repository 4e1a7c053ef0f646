// Shows the texts of our output nodes also where ComfyUI takes their result from its cache and does not run them again: after
// the page was loaded anew, and for a workflow that is opened a second time. Of other nodes ComfyUI says nothing then.
import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

const asHtml = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")

app.registerExtension({
    name: "ReVersion.ShownTexts",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("ReVersion")) return
        const onExecuted = node.onExecuted
        node.onExecuted = function (output) {
            onExecuted?.apply(this, arguments)
            const text = output?.text?.[0]
            // As the server sends it while the node runs. Ids count in the graph on the screen: not of a closed subgraph.
            if (text && this.graph === app.canvas.graph) api.dispatchCustomEvent("progress_text", { nodeId: String(this.id), text: asHtml(text) })
        }
    },
})
